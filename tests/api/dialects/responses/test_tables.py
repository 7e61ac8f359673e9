"""docs/dialects.md tells the truth about every field of a Responses request."""

from __future__ import annotations

from typing import Any

import pytest

from api.body import Refused
from api.dialects.responses import types
from shared.errors import Unsupported
from shared.requests import Generate
from tests.api.dialects.responses.asks import CALL, PIXEL, RESULT, SCHEMA, THOUGHT, TOOL, asked
from tests.api.dialects.tables import Field, fields, of, table

FORMAT = {"type": "json_schema", "name": "n", "schema": SCHEMA}
ACCEPTED: dict[str, Any] = {
    "truncation": "disabled",
    "stream_options": {},
    "include_obfuscation": False,
    "max_tool_calls": 1,
    "prompt_cache_retention": "24h",
    "verbosity": "medium",
    "strict": True,
    "annotations": [{}],
    "logprobs": [{}],
    "status": "completed",
    "phase": "final_answer",
}


def user(*parts: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": list(parts)}]}


def request(struct: str, more: dict[str, Any]) -> Generate:
    """A request whose part of this Struct has `more`, parsed."""
    answer = {"type": "output_text", "text": "b", **more}
    places: dict[str, dict[str, Any]] = {
        "CreateResponse": {"stream": True, **more},
        "Reasoning": {"reasoning": more},
        "TextConfig": {"text": more},
        "JsonSchemaFormat": {"text": {"format": FORMAT | more}},
        "StreamOptions": {"stream": True, "stream_options": more},
        "FunctionTool": {"tools": [TOOL | more]},
        "OutputText": {"input": [{"role": "assistant", "content": [answer]}]},
        "InputImage": user({"type": "input_image", "image_url": PIXEL, **more}),
        "ImageURL": user({"type": "image_url", "image_url": {"url": PIXEL, **more}}),
        "MessageItem": {"input": [{"role": "assistant", "content": "b", **more}]},
        "FunctionCallItem": {"input": [CALL | more]},
        "FunctionOutputItem": {"input": [CALL, RESULT | more]},
        "ReasoningItem": {"input": [THOUGHT | more]},
    }
    return asked(**places[struct])


def test_every_field_is_in_the_table_and_no_other() -> None:
    written, read = table("Responses"), fields(types)
    assert set(written) == set(read)
    typed = {field for field, type_ in read.items() if type_ == Refused}
    assert typed == {field for field, state in written.items() if state == "refused"}


@pytest.mark.parametrize("field", of("Responses", "refused"))
def test_what_is_refused_is_refused_by_name(field: Field) -> None:
    struct, name = field
    with pytest.raises(Unsupported) as caught:
        request(struct, {name: "x"})
    assert (caught.value.param or "").endswith(name)
    assert request(struct, {name: None}) == request(struct, {})


@pytest.mark.parametrize("field", of("Responses", "no effect"))
def test_what_has_no_effect_has_none(field: Field) -> None:
    struct, name = field
    assert request(struct, {name: ACCEPTED.get(name, "x")}) == request(struct, {})
