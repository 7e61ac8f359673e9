"""Ollama's messages as canonical ones, and its base64 images as bytes. Pure.

Calls may come without an id here and results without the id of their call: a result without one
belongs to the first call of its name (or of any name) that has none yet.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence

import msgspec

from api.dialects.ollama import types as wire
from shared.errors import RequestError
from shared.messages import Image, Link, Message, Part, Text, ToolCall

MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"BM": "image/bmp",
}


def messages_of(turns: Sequence[wire.Message]) -> tuple[Message, ...]:
    """All messages. Raises RequestError, which says where."""
    waiting: list[ToolCall] = []
    messages: list[Message] = []
    made = 0
    for index, turn in enumerate(turns):
        at = f"messages[{index}]"
        _check(turn, at=at)
        calls = tuple(
            _call(call, fallback=f"call_{made + n}") for n, call in enumerate(turn.tool_calls or ())
        )
        made += len(calls)
        if calls:
            waiting = list(calls)
        messages.append(_message(turn, calls, waiting, at=at))
    return tuple(messages)


def _check(turn: wire.Message, *, at: str) -> None:
    """Members that belong to another role."""
    if turn.tool_calls and turn.role != "assistant":
        raise RequestError(f"{at}.tool_calls: only the assistant calls tools", param=at)
    if turn.thinking and turn.role != "assistant":
        raise RequestError(f"{at}.thinking: only the assistant thinks", param=at)
    if turn.images and turn.role not in ("user", "tool"):
        raise RequestError(f"{at}.images: only user and tool messages show images", param=at)
    if (turn.tool_name or turn.tool_call_id or turn.name) and turn.role != "tool":
        raise RequestError(f"{at}: a tool's name or call stands in tool messages", param=at)


def _message(
    turn: wire.Message, calls: tuple[ToolCall, ...], waiting: list[ToolCall], *, at: str
) -> Message:
    content = parts_of(turn.content, turn.images, at=at)
    if turn.role == "tool":
        return _result(turn, content, waiting)
    return Message(
        role=turn.role, content=content, tool_calls=calls, reasoning=turn.thinking or None
    )


def _call(call: wire.Call, *, fallback: str) -> ToolCall:
    arguments = msgspec.json.encode(call.function.arguments).decode()
    return ToolCall(id=call.id or fallback, name=call.function.name, arguments=arguments)


def _result(turn: wire.Message, content: tuple[Part, ...], waiting: list[ToolCall]) -> Message:
    name = turn.tool_name or turn.name
    call = next((call for call in waiting if _answers(turn, name, call)), None)
    if call is not None:
        waiting.remove(call)
    return Message(
        role="tool",
        content=content,
        tool_call_id=turn.tool_call_id or (call.id if call else None),
        name=name or (call.name if call else None),
    )


def _answers(turn: wire.Message, name: str | None, call: ToolCall) -> bool:
    if turn.tool_call_id:
        return call.id == turn.tool_call_id
    return name is None or call.name == name


def parts_of(text: str | None, images: Sequence[str] | None, *, at: str = "") -> tuple[Part, ...]:
    """A text and the images that go with it, the text first."""
    parts: list[Part] = [Text(text=text)] if text else []
    for index, image in enumerate(images or ()):
        parts.append(_image(image, at=f"{at}.images[{index}]".lstrip(".")))
    return tuple(parts)


def _image(image: str, *, at: str) -> Image | Link:
    image = image.strip()
    if (link := Link.of(image, at, refusal="no images are fetched; send base64")) is not None:
        return link
    if image.startswith("data:"):
        image = image.partition(",")[2]
    try:
        data = b64decode(image, validate=True)
    except ValueError as error:
        raise RequestError(f"{at}: not base64: {error}", param=at) from error
    if not data:
        raise RequestError(f"{at}: an image of no bytes", param=at)
    return Image(data=data, media_type=_media_type(data))


def _media_type(data: bytes) -> str:
    """By the first bytes; a JPEG where they say nothing, as Ollama's clients expect."""
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "image/jpeg")
