"""Canonical messages to the dictionaries that chat templates read, as a template wants them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from shared.errors import RequestError, Unsupported
from shared.messages import Message, Text, Tool, ToolCall


class Quirks(msgspec.Struct, frozen=True, kw_only=True):
    """How a template takes messages; quirks.py finds out by trying.

    Without `tools` the template does not show tools, without `calls` not the calls made before:
    what it does not show goes in as text. Without `several` a turn may have one call only.
    """

    content: Literal["text", "parts"] = "text"
    system: bool = True
    tools: bool = False
    calls: bool = True
    several: bool = True
    arguments: Literal["object", "text"] = "object"
    empty_content: Literal["", "none"] = ""
    short_ids: bool = False


def to_template(messages: Sequence[Message], quirks: Quirks) -> list[dict[str, Any]]:
    """Dictionaries for a template that knows everything in them. Refuses images and audio."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    if not quirks.several:
        messages = one_by_one(messages)
    turns = [_turn(message, quirks, names) for message in messages]
    return turns if quirks.system else _without_system(turns)


def one_by_one(messages: Sequence[Message]) -> list[Message]:
    """Turns of several calls as turns of one, each followed by its result."""
    results = {found.tool_call_id: found for found in messages if found.role == "tool"}
    out: list[Message] = []
    moved: set[str | None] = set()
    for message in messages:
        if len(message.tool_calls) < 2:
            out += [] if message.role == "tool" and message.tool_call_id in moved else [message]
            continue
        for number, call in enumerate(message.tool_calls):
            content = message.content if number == 0 else ()
            out.append(replace(message, content=content, tool_calls=(call,)))
            if call.id in results:
                out.append(results[call.id])
                moved.add(call.id)
    return out


def _turn(message: Message, quirks: Quirks, names: dict[str, str]) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": _content(message, quirks)}
    if message.tool_calls:
        turn["tool_calls"] = [_call(call, quirks) for call in message.tool_calls]
        if not message.text and quirks.empty_content == "none":
            turn["content"] = None
    if message.reasoning:
        turn["reasoning_content"] = turn["thinking"] = message.reasoning
    if message.role == "tool":
        turn["tool_call_id"] = _id(message.tool_call_id or "", quirks)
    name = message.name or names.get(message.tool_call_id or "")
    if name:
        turn["name"] = name
    return turn


def _content(message: Message, quirks: Quirks) -> Any:
    for part in message.content:
        if not isinstance(part, Text):
            kind = type(part).__name__.lower()
            raise Unsupported("messages", f"this model takes text only, not {kind}")
    if quirks.content == "text":
        return message.text
    return [{"type": "text", "text": message.text}]


def _call(call: ToolCall, quirks: Quirks) -> dict[str, Any]:
    as_object = quirks.arguments == "object"
    arguments = parse_arguments(call) if as_object else call.arguments or "{}"
    return {
        "type": "function",
        "id": _id(call.id, quirks),
        "function": {"name": call.name, "arguments": arguments},
    }


def parse_arguments(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as an object. RequestError if they are none."""
    try:
        found = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequestError(
            f"messages: the arguments of the call of {call.name!r} are not a JSON object",
            param="messages",
        )
    return found


def _id(call_id: str, quirks: Quirks) -> str:
    """Some templates insist on nine letters and digits."""
    if not quirks.short_ids or (len(call_id) == 9 and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]


def _without_system(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """System text in front of the next user turn, for templates that have no such role."""
    waiting: list[str] = []
    out: list[dict[str, Any]] = []
    for turn in turns:
        if turn["role"] == "system":
            waiting.append(_plain(turn["content"]))
        elif turn["role"] == "user" and waiting:
            text = "\n\n".join([*waiting, _plain(turn["content"])])
            out.append({**turn, "content": _like(turn["content"], text)})
            waiting = []
        else:
            out.append(turn)
    return [*out, *([{"role": "user", "content": "\n\n".join(waiting)}] if waiting else [])]


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _like(content: Any, text: str) -> Any:
    return text if isinstance(content, str) else [{"type": "text", "text": text}]


def tool_definition(tool: Tool) -> dict[str, Any]:
    """A tool as templates know it."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {"type": "object", "properties": {}},
        },
    }
