"""Whatever JSON comes, a parser answers with a request or with an error that is the caller's."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import body
from api.dialects.anthropic import parse as anthropic
from api.dialects.anthropic import types as anthropic_types
from api.dialects.ollama import parse as ollama
from api.dialects.ollama import types as ollama_types
from shared import codec
from shared.errors import RequestError
from shared.requests import Request

MARK = {"type": "ephemeral", "ttl": "5m"}
TEXT = {"type": "text", "text": "a", "cache_control": MARK, "citations": None}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "aGk="}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
MESSAGES: dict[str, Any] = {
    "model": "smollm2",
    "max_tokens": 5,
    "system": [TEXT],
    "messages": [
        {"role": "user", "content": [TEXT, {"type": "image", "source": SOURCE}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": None},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c", "content": [TEXT], "is_error": True}
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA, "input_examples": [{}], "type": "custom"}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stop_sequences": ["x"],
    "metadata": {"user_id": "u"},
}
OPTIONS = {"seed": -1, "stop": ["x"], "logit_bias": {"5": 1.0}, "num_predict": -1, "tfs_z": 1.0}
CHAT: dict[str, Any] = {
    "model": "smollm2",
    "messages": [
        {"role": "user", "content": "a", "images": ["aGk="]},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
        {"role": "tool", "content": "b", "tool_name": "f", "tool_call_id": "c"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "options": OPTIONS,
    "format": SCHEMA,
    "keep_alive": "1h30m",
    "think": "low",
    "logprobs": True,
    "top_logprobs": 3,
}
GENERATE: dict[str, Any] = {
    "model": "smollm2",
    "prompt": "a",
    "suffix": "b",
    "system": "",
    "images": [],
    "raw": False,
    "options": OPTIONS,
    "keep_alive": -1,
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["text", "tool_use", "direct", "-", "1h", "data:,", "\U0001f600", "9" * 400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.just("type"), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every node below the root."""
    match value:
        case dict():
            inner = [found for key in value for found in places(value[key], (*path, key))]
        case list():
            inner = [found for at, item in enumerate(value) for found in places(item, (*path, at))]
        case _:
            inner = []
    return [*([path] if path else []), *inner]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with `new` at `path`."""
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


def messages(wire: Any) -> Request:
    anthropic.marks_cache(wire)
    anthropic.hides_thinking(wire)
    return anthropic.generate(wire, job="j")


def chat(wire: Any) -> Request:
    ollama.intent_of(wire)
    return ollama.chat(wire, job="j")


def generate(wire: Any) -> Request:
    ollama.intent_of(wire)
    return ollama.generate(wire, job="j")


@pytest.mark.parametrize(
    ("kind", "example", "parse"),
    [
        (anthropic_types.MessageCreate, MESSAGES, messages),
        (ollama_types.Chat, CHAT, chat),
        (ollama_types.Generate, GENERATE, generate),
    ],
)
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_one_wrong_value_costs_nothing_else(
    kind: Any, example: dict[str, Any], parse: Any, data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(places(example)))
    asked = changed(example, path, data.draw(JSON))
    with suppress(RequestError):
        request = parse(body.parse(msgspec.json.encode(asked), msgspec.json.Decoder(kind)))
        assert codec.decode_request(codec.encode_request(request)) == request


@pytest.mark.parametrize(
    ("kind", "example", "parse"),
    [
        (anthropic_types.MessageCreate, MESSAGES, messages),
        (ollama_types.Chat, CHAT, chat),
        (ollama_types.Generate, GENERATE, generate),
    ],
)
def test_the_examples_are_good(kind: Any, example: dict[str, Any], parse: Any) -> None:
    assert parse(body.parse(msgspec.json.encode(example), msgspec.json.Decoder(kind))).id == "j"
