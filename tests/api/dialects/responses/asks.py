"""Responses requests, as JSON, and what the dialect makes of them without a server."""

from __future__ import annotations

from typing import Any

import msgspec

from api import body
from api.dialects.responses import items, parse, types
from api.dialects.responses.conversation import messages
from shared.requests import Chat, Generate

JOB = "resp_" + "0b" * 16
HI: dict[str, Any] = {"role": "user", "content": "hi"}
PIXEL = "data:image/png;base64,aGk="
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": SCHEMA}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "4"}
THOUGHT = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "h"}]}
FULL: dict[str, Any] = {
    "model": "smollm2",
    "instructions": "Be kind.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            ],
        },
        {**THOUGHT, "id": "rs_1", "encrypted_content": "aGk="},
        {"role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
        CALL,
        RESULT,
        {"type": "message", "role": "developer", "content": "c"},
    ],
    "tools": [TOOL, {"type": "function", "function": {"name": "g", "strict": True}}],
    "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [TOOL | {}]},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "max_output_tokens": 5,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_logprobs": 3,
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "truncation": "disabled",
}
FULL["tool_choice"]["tools"] = [{"type": "function", "name": "f"}]

_decoder = msgspec.json.Decoder(types.CreateResponse)


def wire(**more: Any) -> types.CreateResponse:
    """A request's Struct. Raises RequestError."""
    return body.parse(msgspec.json.encode({"model": "smollm2", "input": "hi"} | more), _decoder)


def understood(asked: types.CreateResponse) -> Generate:
    """What is run for a request without stored history. Raises RequestError."""
    parse.check(asked)
    given = items.resolved(items.given(asked, response=JOB), ())
    return parse.generate(asked, job=JOB, messages=messages(asked.instructions, (), given))


def asked(**more: Any) -> Generate:
    """The same, of JSON members."""
    return understood(wire(**more))


def chat(**more: Any) -> Chat:
    """The conversation, tools and choice of it."""
    found = asked(**more).input
    assert isinstance(found, Chat)
    return found
