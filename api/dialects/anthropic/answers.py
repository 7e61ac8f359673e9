"""What Anthropic's routes answer, as Structs: messages, stream events, counts, models, errors."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Text(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A block of the answer."""

    text: str


class Thinking(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought. `signature` is a digest of it: there is nothing to be proved."""

    thinking: str
    signature: str


class ToolUse(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A call for the caller to make."""

    id: str
    name: str
    input: dict[str, Any]


Block = Text | Thinking | ToolUse


class OutputDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Of the output tokens, those the model thought with."""

    thinking_tokens: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt tokens are the sum of the three input counts."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails(thinking_tokens=0)


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A whole answer, or in message_start its empty beginning."""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: tuple[Block, ...] = ()
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: Usage


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class ThinkingDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="thinking_delta"
):
    """More thinking."""

    thinking: str


class SignatureDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="signature_delta"
):
    """The end of a thinking block."""

    signature: str


class InputJsonDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="input_json_delta"
):
    """More of a call's arguments, as JSON text."""

    partial_json: str


Delta = TextDelta | ThinkingDelta | SignatureDelta | InputJsonDelta


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Anything streamed; the tag is the SSE event's name too."""


class MessageStart(StreamEvent, frozen=True, kw_only=True, tag="message_start"):
    """First."""

    message: Message


class BlockStart(StreamEvent, frozen=True, kw_only=True, tag="content_block_start"):
    """A block begins, empty."""

    index: int
    content_block: Block


class BlockDelta(StreamEvent, frozen=True, kw_only=True, tag="content_block_delta"):
    """The open block grows."""

    index: int
    delta: Delta


class BlockStop(StreamEvent, frozen=True, kw_only=True, tag="content_block_stop"):
    """The open block ends."""

    index: int


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why the message ends."""

    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(StreamEvent, frozen=True, kw_only=True, tag="message_delta"):
    """The end and the final counts."""

    delta: Stop
    usage: Usage


class MessageStop(StreamEvent, frozen=True, kw_only=True, tag="message_stop"):
    """Last."""


class Ping(StreamEvent, frozen=True, kw_only=True, tag="ping"):
    """Still here."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong."""

    type: str
    message: str


class Error(StreamEvent, frozen=True, kw_only=True, tag="error"):
    """An error's body, and the last event of a stream that failed."""

    error: Fault


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to count_tokens."""

    input_tokens: int


class Model(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="model"):
    """One model; `max_tokens` is what one answer may have at most."""

    id: str
    display_name: str
    created_at: str
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class Models(msgspec.Struct, frozen=True, kw_only=True):
    """A page of models."""

    data: tuple[Model, ...]
    has_more: bool
    first_id: str | None
    last_id: str | None
