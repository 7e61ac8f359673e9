"""What was sent over HTTP as people want to read it: media cut short, streams joined. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]

MOST_CHARACTERS = 256 * 1024
MEDIA_CHARACTERS = 100
MEDIA = re.compile(r"(data:[^,]{0,100},)?[A-Za-z0-9+/_=\-\s]*", re.ASCII)
DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def of_request(body: bytes) -> str:
    """A request's body without its media; one that is no JSON as it is."""
    return _cut(_text(body))


def of_response(body: bytes, *, content_type: str) -> str:
    """A response's body; a stream as the one object that it amounts to."""
    if content_type.startswith("text/event-stream"):
        events = _events(line[5:] for line in body.splitlines() if line.startswith(b"data:"))
        return _cut(_encoded(joined(events)))
    if content_type.startswith("application/x-ndjson"):
        return _cut(_encoded(joined(_events(body.splitlines()))))
    return _cut(_text(body))


def joined(events: Sequence[Json]) -> Json:
    """The object a stream's events amount to, whichever API's they are; {} for none."""
    if not events:
        return {}
    first = events[0]
    match first.get("type"):
        case "message_start":
            return _anthropic(events)
        case str(kind) if kind.startswith("response."):
            whole: Json = next((e["response"] for e in reversed(events) if "response" in e), {})
            return whole
    if str(first.get("object", "")).startswith(("chat.completion", "text_completion")):
        return _openai(events)
    return _ollama(events) if "done" in events[-1] else events[-1]


def _events(lines: Iterable[bytes]) -> list[Json]:
    found = []
    for line in lines:
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:  # [DONE], or where the record was cut
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


def _openai(chunks: Sequence[Json]) -> Json:
    choices: dict[int, Json] = {}
    whole = {name: value for name, value in chunks[-1].items() if value is not None}
    for chunk in chunks:
        for part in chunk.get("choices", ()):
            _grow_choice(choices.setdefault(part["index"], {"index": part["index"]}), part)
    kind = str(whole.get("object", "")).removesuffix(".chunk")
    return {**whole, "object": kind, "choices": [choices[n] for n in sorted(choices)]}


def _grow_choice(choice: Json, part: Json) -> None:
    if "text" in part:
        choice["text"] = choice.get("text", "") + part["text"]
    message = choice.setdefault("message", {}) if "delta" in part else {}
    for name, value in part.get("delta", {}).items():
        if name == "tool_calls":
            _grow_calls(message.setdefault(name, []), value)
        elif isinstance(value, str) and name != "role":
            message[name] = message.get(name, "") + value
        else:
            message[name] = value
    choice["finish_reason"] = part.get("finish_reason") or choice.get("finish_reason")


def _grow_calls(calls: list[Json], parts: Sequence[Json]) -> None:
    for part in parts:
        known = next((call for call in calls if call["index"] == part["index"]), None)
        if known is None:
            calls.append(part)
        else:
            known["function"]["arguments"] += part["function"].get("arguments", "")


def _anthropic(events: Sequence[Json]) -> Json:
    message: Json = dict(events[0]["message"])
    blocks: dict[int, Json] = {}
    for event in events:
        match event.get("type"):
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                _grow_block(blocks[event["index"]], event["delta"])
            case "message_delta":
                message |= event["delta"]
                message["usage"] = {**message.get("usage", {}), **event.get("usage", {})}
    return {**message, "content": [blocks[n] for n in sorted(blocks)]}


def _grow_block(block: Json, delta: Json) -> None:
    if name := DELTAS.get(delta["type"]):
        block[name] = block.get(name, "") + delta[name]
    elif delta["type"] == "input_json_delta":
        given = block["input"] if isinstance(block.get("input"), str) else ""
        block["input"] = given + delta["partial_json"]


def _ollama(lines: Sequence[Json]) -> Json:
    whole = dict(lines[-1])
    if "response" in lines[0]:
        return whole | {"response": "".join(line.get("response", "") for line in lines)}
    said = [line.get("message", {}) for line in lines]
    message: Json = {
        "role": "assistant",
        "content": "".join(one.get("content", "") for one in said),
    }
    if thought := "".join(one.get("thinking") or "" for one in said):
        message["thinking"] = thought
    if calls := [call for one in said for call in one.get("tool_calls") or ()]:
        message |= {"tool_calls": calls}
    return whole | {"message": message}


def _text(body: bytes) -> str:
    try:
        return _encoded(_without_media(msgspec.json.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _without_media(value: Any) -> Any:
    match value:
        case dict():
            return {name: _without_media(inner) for name, inner in value.items()}
        case list():
            return [_without_media(inner) for inner in value]
        case str() if len(value) > MEDIA_CHARACTERS and MEDIA.fullmatch(value):
            return _shortened(value)
        case _:
            return value


def _shortened(text: str) -> str:
    """Base64 has no spaces; long words of people's do not come in hundreds of characters."""
    if " " in text:
        return text
    return f"{text[:MEDIA_CHARACTERS]}...[{len(text) - MEDIA_CHARACTERS} more characters]"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "...[cut]"
