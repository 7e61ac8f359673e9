"""Anthropic's turns as canonical messages. Pure.

Turns hold blocks; a tool's result is a block of a user turn here and a message of its own there.
Consecutive turns of one role are one turn, as the vendor has it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence

import msgspec

from api.dialects.anthropic import types as wire
from shared.errors import RequestError, Unsupported
from shared.messages import Image, Link, Message, Part, Text, ToolCall

ERROR = "Error: "
BETWEEN_TURNS = "\n\n"

Placed = tuple[str, wire.Block]
Turn = tuple[str, list[Placed]]


def messages_of(
    system: str | tuple[wire.TextBlock, ...] | None, turns: Sequence[wire.Turn]
) -> tuple[Message, ...]:
    """All messages, the system's first. Raises RequestError, which says where."""
    messages = list(_system_turn(list(_blocks(system or (), at="system"))))
    open_calls: dict[str, str] = {}
    for role, blocks in _merged(turns):
        match role:
            case "assistant":
                messages.append(message := _assistant(blocks))
                open_calls = {call.id: call.name for call in message.tool_calls}
            case "user":
                _check_results(blocks, open_calls)
                messages.extend(_user(blocks, open_calls))
                open_calls = {}
            case _:
                messages.extend(_system_turn(blocks))
    if open_calls:
        _missing(open_calls)
    return tuple(messages)


def _blocks(content: str | Sequence[wire.Block], *, at: str) -> Iterator[Placed]:
    """Each block and where it stands; a string is one block of text."""
    if isinstance(content, str):
        yield at, wire.TextBlock(text=content)
        return
    for index, block in enumerate(content):
        yield f"{at}.{index}", block


def _merged(turns: Sequence[wire.Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for index, turn in enumerate(turns):
        blocks = list(_blocks(turn.content, at=f"messages.{index}.content"))
        _check_filled(turn, blocks, last=index == len(turns) - 1)
        if merged and merged[-1][0] == turn.role:
            merged[-1][1].extend([*_gap(merged[-1][1], blocks), *blocks])
        else:
            merged.append((turn.role, blocks))
    return merged


def _check_filled(turn: wire.Turn, blocks: list[Placed], *, last: bool) -> None:
    """Only a last assistant turn may be empty: it has nothing to go on from."""
    if turn.content or (last and turn.role == "assistant" and blocks):
        return
    raise RequestError("messages: a turn has no content", param="messages")


def _gap(before: list[Placed], after: list[Placed]) -> list[Placed]:
    """White space between two turns that become one, so that no words grow together."""
    match before[-1:], after[:1]:
        case [(_, wire.TextBlock())], [(at, wire.TextBlock())]:
            return [(at, wire.TextBlock(text=BETWEEN_TURNS))]
        case _:
            return []


def _system_turn(blocks: list[Placed]) -> Iterator[Message]:
    if blocks:
        parts = tuple(Text(text=_only_text(at, block)) for at, block in blocks)
        yield Message(role="system", content=parts)


def _only_text(at: str, block: wire.Block) -> str:
    if not isinstance(block, wire.TextBlock):
        raise _misplaced(at, block, "a system prompt is text")
    return _text(at, block).text


def _assistant(blocks: list[Placed]) -> Message:
    parts: list[Part] = []
    calls: list[ToolCall] = []
    reasoning: list[str] = []
    for at, block in blocks:
        match block:
            case wire.TextBlock():
                parts.append(_text(at, block))
            case wire.ThinkingBlock(thinking=thinking):
                reasoning.append(thinking)
            case wire.ToolUseBlock():
                calls.append(_call(at, block))
            case wire.RedactedThinkingBlock():
                raise Unsupported(at, "redacted thinking can only be read by who wrote it")
            case _:
                raise _misplaced(at, block, "it belongs to a user turn")
    return Message(
        role="assistant",
        content=tuple(parts),
        tool_calls=tuple(calls),
        reasoning="".join(reasoning) or None,
    )


def _call(at: str, block: wire.ToolUseBlock) -> ToolCall:
    if block.toolset_name:
        raise Unsupported(f"{at}.toolset_name", "there are no toolsets")
    if (caller := (block.caller or {}).get("type", "direct")) != "direct":
        raise Unsupported(f"{at}.caller", f"no {caller!r} calls tools here")
    arguments = msgspec.json.encode(block.input).decode()
    return ToolCall(id=block.id, name=block.name, arguments=arguments)


def _user(blocks: list[Placed], calls: dict[str, str]) -> Iterator[Message]:
    """A message for each tool's result, and one for each stretch of anything else."""
    parts: list[Part] = []
    for at, block in blocks:
        match block:
            case wire.TextBlock():
                parts.append(_text(at, block))
            case wire.ImageBlock():
                parts.append(_image(at, block))
            case wire.ToolResultBlock():
                if parts:
                    yield Message(role="user", content=tuple(parts))
                    parts = []
                yield _result(at, block, name=calls[block.tool_use_id])
            case _:
                raise _misplaced(at, block, "it belongs to an assistant turn")
    if parts:
        yield Message(role="user", content=tuple(parts))


def _check_results(blocks: list[Placed], calls: dict[str, str]) -> None:
    """Every call has its result in the next turn, and every result its call."""
    waiting = dict(calls)
    for at, block in blocks:
        if isinstance(block, wire.ToolResultBlock) and not waiting.pop(block.tool_use_id, None):
            raise RequestError(
                f"{at}.tool_use_id: no tool_use {block.tool_use_id!r} waits for a result in the "
                "turn before",
                param=f"{at}.tool_use_id",
            )
    if waiting:
        _missing(waiting)


def _missing(calls: dict[str, str]) -> None:
    ids = ", ".join(calls)
    raise RequestError(
        f"messages: tool_use without a tool_result in the next turn: {ids}", param="messages"
    )


def _result(at: str, block: wire.ToolResultBlock, *, name: str) -> Message:
    if block.toolset_name:
        raise Unsupported(f"{at}.toolset_name", "there are no toolsets")
    parts = [_result_part(*placed) for placed in _blocks(block.content or (), at=f"{at}.content")]
    if block.is_error:
        parts = _as_error(parts)
    return Message(role="tool", content=tuple(parts), tool_call_id=block.tool_use_id, name=name)


def _result_part(at: str, block: wire.Block) -> Part:
    match block:
        case wire.TextBlock():
            return _text(at, block)
        case wire.ImageBlock():
            return _image(at, block)
        case _:
            raise _misplaced(at, block, "a result holds text and images")


def _as_error(parts: list[Part]) -> list[Part]:
    """Templates have no word for failure, so the text says it, unless it does already."""
    first = parts[0] if parts else None
    if isinstance(first, Text) and first.text.lower().startswith("error"):
        return parts
    return [Text(text=ERROR), *parts]


def _text(at: str, block: wire.TextBlock) -> Text:
    if block.citations:
        raise Unsupported(f"{at}.citations", "sources are not cited here")
    return Text(text=block.text)


def _image(at: str, block: wire.ImageBlock) -> Image | Link:
    if block.transformations:
        raise Unsupported(f"{at}.transformations", "images are shown as they are")
    match block.source:
        case wire.Base64Source(data=data, media_type=media_type):
            return Image(data=_decoded(data, at=f"{at}.source.data"), media_type=media_type)
        case wire.UrlSource(url=url):
            refusal, param = "no images are fetched; send base64", f"{at}.source.url"
            if (link := Link.of(url, param, refusal=refusal)) is None:
                raise Unsupported(param, refusal)
            return link
        case wire.FileSource():
            raise Unsupported(f"{at}.source.file_id", "no files are kept; send base64")


def _decoded(data: str, *, at: str) -> bytes:
    try:
        image = b64decode(data, validate=True)
    except ValueError as error:
        raise RequestError(f"{at}: not base64: {error}", param=at) from error
    if not image:
        raise RequestError(f"{at}: an image of no bytes", param=at)
    return image


def _misplaced(at: str, block: wire.Block, why: str) -> RequestError:
    kind = block.__struct_config__.tag
    return RequestError(f"{at}: no {kind} block may stand here: {why}", param=at)
