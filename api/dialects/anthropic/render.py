"""Events as Anthropic's stream, and a completed job as one message. Pure.

One block is open at a time: another kind of event closes it and opens the next.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

import msgspec

from api.completed import Choice, Completed
from api.dialects.anthropic import answers, errors
from shared import events
from shared.errors import CaravanError, Internal, Unavailable, error_of

BROKEN_JSON = "INVALID_JSON"  # the vendor's own wrapper for arguments that are not JSON

CANCELLED = "the job was cancelled before its answer was whole"

_encode = msgspec.json.Encoder().encode


class Stream:
    """One answer: `feed` events, then `flush`; both return what to send."""

    def __init__(
        self, *, id: str, model: str, marks_cache: bool = False, hides_thinking: bool = False
    ) -> None:
        self._id = id
        self._model = model
        self._marks_cache = marks_cache
        self._hides_thinking = hides_thinking
        self._started = False
        self._ended = False
        self._index = -1
        self._kind: type[answers.Block] | None = None
        self._call = -1
        self._digest = hashlib.sha256()

    def feed(self, batch: Sequence[events.Event]) -> bytes:
        """What these events mean to the client, framed."""
        return b"".join(frame(out) for event in batch for out in self.said(event))

    def said(self, event: events.Event) -> list[answers.StreamEvent]:
        """The stream's events for one of ours."""
        match event:
            case events.TextDelta(text=text):
                return self._say(text)
            case events.ReasoningDelta(text=text):
                return self._think(text)
            case events.ToolCallDelta():
                return self._tool(event)
            case events.Started(prompt_tokens=prompt_tokens):
                return self._start(prompt_tokens)
            case events.Finished():
                return self._finish(event)
            case events.Failed():
                return self._fail(error_of(event))
            case events.Progress() | events.Vectors() | events.Scores() | events.Tokens():
                return []
            case events.Stored():
                return []
            case _:
                assert_never(event)

    def flush(self) -> bytes:
        """Nothing, unless the events broke off."""
        return b"" if self._ended else b"".join(map(frame, self._fail(Internal())))

    def _start(self, prompt_tokens: int) -> list[answers.StreamEvent]:
        """Once: a job that moves to another worker starts again there."""
        if self._started:
            return []
        self._started = True
        usage = answers.Usage(input_tokens=prompt_tokens, output_tokens=0)
        message = answers.Message(id=self._id, model=self._model, usage=usage)
        return [answers.MessageStart(message=message)]

    def _open(
        self, kind: type[answers.Block], block: answers.Block | None = None
    ) -> list[answers.StreamEvent]:
        """Close what is open and open the next block, if this kind is not open already."""
        if block is None and self._kind is kind:
            return []
        out = [*self._start(0), *self._close()]
        self._index += 1
        self._kind = kind
        start = block or _EMPTY[kind]
        return [*out, answers.BlockStart(index=self._index, content_block=start)]

    def _close(self) -> list[answers.StreamEvent]:
        if self._kind is None:
            return []
        out: list[answers.StreamEvent] = []
        if self._kind is answers.Thinking:
            out.append(self._delta(answers.SignatureDelta(signature=_signature(self._digest))))
            self._digest = hashlib.sha256()
        self._kind = None
        return [*out, answers.BlockStop(index=self._index)]

    def _delta(self, delta: answers.Delta) -> answers.BlockDelta:
        return answers.BlockDelta(index=self._index, delta=delta)

    def _say(self, text: str) -> list[answers.StreamEvent]:
        if not text:
            return []
        return [*self._open(answers.Text), self._delta(answers.TextDelta(text=text))]

    def _think(self, text: str) -> list[answers.StreamEvent]:
        if not text:
            return []
        out = self._open(answers.Thinking)
        self._digest.update(text.encode())
        if not self._hides_thinking:
            out.append(self._delta(answers.ThinkingDelta(thinking=text)))
        return out

    def _tool(self, event: events.ToolCallDelta) -> list[answers.StreamEvent]:
        """Calls come one after the other: another index is another call."""
        out: list[answers.StreamEvent] = []
        if self._kind is not answers.ToolUse or event.index != self._call:
            self._call = event.index
            call_id = event.id or f"toolu_{self._id}_{event.index}"
            block = answers.ToolUse(id=call_id, name=event.name or "", input={})
            out = self._open(answers.ToolUse, block)
        if event.arguments:
            out.append(self._delta(answers.InputJsonDelta(partial_json=event.arguments)))
        return out

    def _finish(self, event: events.Finished) -> list[answers.StreamEvent]:
        end = event.choices[0] if event.choices else events.ChoiceEnd()
        if end.reason == "cancelled":
            return self._fail(Unavailable(CANCELLED))
        self._ended = True
        return [
            *self._start(event.usage.prompt_tokens),
            *self._close(),
            answers.MessageDelta(
                delta=_stop(end), usage=_usage(event.usage, marks_cache=self._marks_cache)
            ),
            answers.MessageStop(),
        ]

    def _fail(self, error: CaravanError) -> list[answers.StreamEvent]:
        self._ended = True
        return [errors.body(error)]


_EMPTY: dict[type[answers.Block], answers.Block] = {
    answers.Text: answers.Text(text=""),
    answers.Thinking: answers.Thinking(thinking="", signature=""),
}


_NAMES = {
    kind: str(kind.__struct_config__.tag).encode() for kind in answers.StreamEvent.__subclasses__()
}


def _stop(end: events.ChoiceEnd) -> answers.Stop:
    if end.stop is not None:
        return answers.Stop(stop_reason="stop_sequence", stop_sequence=end.stop)
    match end.reason:
        case "length":
            return answers.Stop(stop_reason="max_tokens")
        case "tool_calls":
            return answers.Stop(stop_reason="tool_use")
        case _:
            return answers.Stop(stop_reason="end_turn")


def frame(event: answers.StreamEvent) -> bytes:
    """One event as SSE."""
    return b"event: %b\ndata: %b\n\n" % (_NAMES[type(event)], _encode(event))


def message(
    completed: Completed, *, model: str, marks_cache: bool = False, hides_thinking: bool = False
) -> answers.Message:
    """A whole answer. Raises Unavailable when it was cancelled before it was whole."""
    choice = completed.choices[0] if completed.choices else Choice()
    if choice.end.reason == "cancelled":
        raise Unavailable(CANCELLED)
    stop = _stop(choice.end)
    return answers.Message(
        id=completed.job,
        model=model,
        content=tuple(_blocks(choice, hides_thinking=hides_thinking)),
        stop_reason=stop.stop_reason,
        stop_sequence=stop.stop_sequence,
        usage=_usage(completed.finished.usage, marks_cache=marks_cache),
    )


def _blocks(choice: Choice, *, hides_thinking: bool) -> Iterator[answers.Block]:
    if choice.reasoning:
        signature = _signature(hashlib.sha256(choice.reasoning.encode()))
        thinking = "" if hides_thinking else choice.reasoning
        yield answers.Thinking(thinking=thinking, signature=signature)
    if choice.text:
        yield answers.Text(text=choice.text)
    for call in choice.tool_calls:
        yield answers.ToolUse(id=call.id, name=call.name, input=_arguments(call.arguments))


def _signature(digest: hashlib._Hash) -> str:
    """A digest of the thinking: clients keep only thinking that is signed."""
    return b64encode(digest.digest()).decode()


def _usage(usage: events.Usage, *, marks_cache: bool) -> answers.Usage:
    """Where a cache_control stands, what was computed was written to the cache, all but the
    last token: that one is computed for every answer, so it is never read from there."""
    computed = usage.prompt_tokens - usage.cached_tokens
    written = max(computed - 1, 0) if marks_cache else 0
    return answers.Usage(
        input_tokens=computed - written,
        output_tokens=usage.completion_tokens,
        cache_creation_input_tokens=written,
        cache_read_input_tokens=usage.cached_tokens,
        output_tokens_details=answers.OutputDetails(thinking_tokens=usage.reasoning_tokens),
    )


def _arguments(text: str) -> dict[str, Any]:
    """The call's input; text that is no JSON object (cut off, say) is kept in the wrapper."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {BROKEN_JSON: text}
