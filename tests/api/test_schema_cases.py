"""Requests made from the OpenAPI document, right and wrong ones, and every check there is.

`make test-schema` sends thousands, `make test` a few a route: SCHEMA_EXAMPLES says how many random
ones each route gets beside the systematic ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import msgspec
import pytest
import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import allow_header_conformance, unsupported_method

from api import openapi
from api.app import create_app
from shared.settings import Settings
from tests.api.background import fake, in_a_thread
from tests.api.fleet import MODEL

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "0"))  # 0: a few, and not the systematic ones
A_FEW = 3
CASES_WANTED = 2000
LIMIT_S = 20
# 501: some routes say so by design; 503: /ready, and no worker of this fleet has a model store.
WANTED = ["2xx", "3xx", "4xx", "501", "503"]
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 7,
        "phases": {"coverage": {"enabled": EXAMPLES > 0}},
        "checks": {
            "not_a_server_error": {"expected-statuses": WANTED},
            # A schema does not say which fields exclude each other; see `is_right`.
            "positive_data_acceptance": {"expected-statuses": WANTED},
        },
    }
)
# The same handlers stand under several prefixes; each is asked under one.
TWINS = (
    r"^/(?:engines(?:/\{backend\})?/(?:v1|rerank|score|responses)|engines/\{backend\}|responses"
    r"|rerank|score|(?:de)?tokenize|apply-template|v1/messages)(?:/|$)"
)
# Litestar's own answer to OPTIONS names the methods of a path's first handler, not of all.
LITESTAR_S = [allow_header_conformance]


def document() -> dict[str, Any]:
    """The document as it is served, with the model that is there in the place of any."""
    app = create_app(Settings(), fake()).litestar
    whole = openapi.complete(app, app.openapi_schema.to_schema())
    for component in whole["components"]["schemas"].values():
        model = component.get("properties", {}).get("model")
        if component.get("title") == "Configure":  # of a model that need not be there
            continue
        if model is not None and component.get("additionalProperties") is False:
            component["properties"]["model"] = {"enum": [MODEL, *[None] * ("anyOf" in model)]}
    return whole


def readers() -> dict[str, Any]:
    """What each operation's body is decoded as."""
    return {
        f"{method} {route.path_format}": told.takes
        for route in create_app(Settings(), fake()).litestar.routes
        for handler in getattr(route, "route_handlers", ())
        for method in handler.http_methods
        if (told := handler.opt.get(openapi.DESCRIBED))
    }


schema = schemathesis.openapi.from_dict(document(), config=CONFIG).exclude(path_regex=TWINS)
READERS = readers()
SENT: Counter[int] = Counter()  # by status


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with in_a_thread(Settings(data_dir=str(tmp_path_factory.mktemp("data")))) as url:
        yield url


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


schemathesis.serializer.alias("application/x-tar", "application/octet-stream")


@schema.parametrize()
@hypothesis.settings(max_examples=EXAMPLES or A_FEW, deadline=None, derandomize=not EXAMPLES)
def test_every_answer_is_as_the_document_says(
    case: schemathesis.Case, url: str, session: requests.Session
) -> None:
    answer = case.call(base_url=url, session=session, timeout=LIMIT_S)
    SENT[answer.status_code] += 1
    case.validate_response(answer, excluded_checks=not_checked(case))
    if answer.status_code == 400 and is_right(case):
        sent = msgspec.json.encode(whole(case.body))
        msgspec.json.decode(sent, type=READERS[case.operation.label])  # refused for what it means


def not_checked(case: schemathesis.Case) -> list[Any]:
    """Docker answers 404, not 405, to a wrong method on its model routes, and so do we."""
    dockers = case.operation.path.startswith("/models")
    return [*LITESTAR_S, *[unsupported_method] * dockers]


def is_right(case: schemathesis.Case) -> bool:
    """Whether this has a body that the document allows."""
    reads = READERS.get(case.operation.label) is not None
    return reads and bool(case.meta and case.meta.generation.mode.is_positive)


def whole(value: Any) -> Any:
    """1.0 is an integer to JSON Schema, and not to msgspec where it could be something else."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [whole(one) for one in value]
        case dict():
            return {name: whole(one) for name, one in value.items()}
        case _:
            return value


def test_enough_was_sent() -> None:
    assert SENT[200]
    assert not EXAMPLES or SENT.total() >= CASES_WANTED, SENT
