"""The OpenAPI document says what is read and sent."""

from __future__ import annotations

from typing import Any

import httpx
import jsonschema
import pytest

from tests.api.caller import chat
from tests.api.fleet import FakeWorker, said


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/schema/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def validate(document: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    """`value` against a schema of the document; raises where it does not fit."""
    jsonschema.validate(value, {**schema, "components": document["components"]})


def references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(one) for one in part.values()))
    return set().union(*(references(one) for one in part)) if isinstance(part, list) else set()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names


@pytest.mark.parametrize("base", ["/v1", "/engines/v1", "/engines/{backend}/v1"])
def test_openai_s_bodies_are_described(document: dict[str, Any], base: str) -> None:
    for path in ("/chat/completions", "/completions", "/embeddings", "/rerank", "/tokenize"):
        operation = document["paths"][base + path]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        assert {"200", "400", "404", "413", "429", "503"} <= set(operation["responses"])


async def test_what_is_sent_fits(
    document: dict[str, Any], client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    operation = document["paths"]["/v1/chat/completions"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validate(document, schema, chat(max_tokens=3, stop=["x"], logit_bias={"5": 1}))
    for bad in (chat(max_tokens=0), chat(colour="red"), {"model": "x", "messages": []}):
        with pytest.raises(jsonschema.ValidationError):
            validate(document, schema, bad)
    async with worker.serving(lambda _: said("a b")):
        answer = await client.post("/v1/chat/completions", json=chat())
    refused = await client.post("/v1/chat/completions", json=chat(max_tokens=0))
    for status, body in (("200", answer.json()), ("400", refused.json())):
        content = operation["responses"][status]["content"]
        validate(document, content["application/json"]["schema"], body)


async def test_there_is_a_page_to_read_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/schema")
    assert (answer.status_code, answer.headers["content-type"][:9]) == (200, "text/html")
