"""One choice, from token bytes to events: UTF-8, then a reader, then stop strings.

The same tokens always give the same events at the same tokens (a successor of a dead worker relies
on it), so tool call ids come from the job and there is no clock and no chance in here. Stop strings
are looked for in the answer's text, not in reasoning and not in tool calls.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from shared.events import ChoiceEnd, Event, Logprob, ReasoningDelta, TextDelta, ToolCallDelta
from workers.text.reader import Piece, PlainReader, Reader
from workers.text.stops import StopFilter
from workers.text.utf8 import Utf8


def call_id(job: str, *, choice: int, index: int) -> str:
    """The id of a tool call: the same whoever runs the job."""
    digest = hashlib.sha256(f"{job}:{choice}:{index}".encode()).hexdigest()
    return f"call_{digest[:24]}"


class Pipeline:
    """Implements workers.engine.doors.TextPipeline.

    `hidden` pieces (markers that mean nothing to this reader) leave no trace. `prefix` is text the
    answer begins with (an echoed prompt): it comes with the first token's events. With `one_call`
    the choice is over after its first tool call. Logprobs go with the delta of their token's last
    character; those of markup are dropped.
    """

    def __init__(
        self,
        *,
        job: str,
        choice: int = 0,
        reader: Reader | None = None,
        stops: Sequence[str] = (),
        hidden: frozenset[bytes] = frozenset(),
        prefix: str = "",
        one_call: bool = False,
    ) -> None:
        self._job = job
        self._choice = choice
        self._reader: Reader = reader or PlainReader()
        self._stops = StopFilter(stops)
        self._hidden = hidden
        self._prefix = prefix
        self._one_call = one_call
        self._utf8 = Utf8()
        self._at = 0
        self._calls = 0
        self._logprobs: deque[tuple[int, Logprob]] = deque()
        self._end: ChoiceEnd | None = None
        self.reasoning_tokens = 0

    @property
    def end(self) -> ChoiceEnd | None:
        """Why the text is over, if it says so: a stop string, the one call; tool calls at flush."""
        return self._end

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        """Events of one more token."""
        if self._end is not None:
            return ()
        thought = self._reader.thinking
        text = "" if piece in self._hidden else self._utf8.feed(piece)
        self._at += len(text)
        if logprob is not None and piece not in self._hidden:
            self._logprobs.append((self._at + self._utf8.pending, logprob))
        events = self._events(self._reader.feed(text, self._at) if text else ())
        self.reasoning_tokens += thought or self._reader.thinking
        return events

    def flush(self) -> Sequence[Event]:
        """Events of what is held back; the sequence is over."""
        if self._end is not None:
            return ()
        text = self._utf8.flush()
        self._at += len(text)
        pieces = list(self._reader.feed(text, self._at)) if text else []
        events = self._events([*pieces, *self._reader.flush(self._at)])
        if self._end is None:
            self._text(events, self._stops.flush(), self._at)
            self._end = ChoiceEnd(reason="tool_calls") if self._calls else None
        return events

    def _events(self, pieces: Sequence[Piece]) -> list[Event]:
        events: list[Event] = []
        self._text(events, self._prefix, 0)
        self._prefix = ""
        for piece in pieces:
            if self._end is None:
                self._add(events, piece)
        return events

    def _add(self, events: list[Event], piece: Piece) -> None:
        if piece.kind == "text":
            self._search(events, piece)
            return
        self._text(events, self._stops.flush(), piece.end - len(piece.text))
        match piece.kind:
            case "reasoning":
                taken = self._take(piece.end)
                _put(
                    events,
                    ReasoningDelta(text=piece.text, choice=self._choice, logprobs=taken),
                )
            case "call":
                self._calls += 1
                _put(events, self._call(piece, begin=True))
            case "arguments":
                _put(events, self._call(piece, begin=False))
            case "markup":
                self._take(piece.end)
            case "called":
                self._take(piece.end)
                self._end = ChoiceEnd(reason="tool_calls") if self._one_call else None
            case _:
                assert_never(piece.kind)

    def _search(self, events: list[Event], piece: Piece) -> None:
        """Text on its way through the stop strings."""
        total = self._stops.held + len(piece.text)
        text = self._stops.feed(piece.text)
        self._text(events, text, piece.end - total + len(text))
        if self._stops.found is not None:
            self._end = ChoiceEnd(stop=self._stops.found)

    def _text(self, events: list[Event], text: str, end: int) -> None:
        if text:
            taken = self._take(end)
            _put(events, TextDelta(text=text, choice=self._choice, logprobs=taken))

    def _call(self, piece: Piece, *, begin: bool) -> ToolCallDelta:
        index = self._calls - 1
        return ToolCallDelta(
            index=index,
            choice=self._choice,
            id=call_id(self._job, choice=self._choice, index=index) if begin else None,
            name=piece.text if begin else None,
            arguments="" if begin else piece.text,
            logprobs=self._take(piece.end),
        )

    def _take(self, end: int) -> tuple[Logprob, ...]:
        """The logprobs of tokens that are complete at `end`."""
        taken = []
        while self._logprobs and self._logprobs[0][0] <= end:
            taken.append(self._logprobs.popleft()[1])
        return tuple(taken)


def _put(events: list[Event], event: TextDelta | ReasoningDelta | ToolCallDelta) -> None:
    """Add, or lengthen the last one: one delta of a kind a token."""
    last = events[-1] if events else None
    logprobs = (getattr(last, "logprobs", None) or ()) + event.logprobs
    match last, event:
        case TextDelta(text=begun), TextDelta(text=text):
            events[-1] = replace(last, text=begun + text, logprobs=logprobs)
        case ReasoningDelta(text=begun), ReasoningDelta(text=text):
            events[-1] = replace(last, text=begun + text, logprobs=logprobs)
        case ToolCallDelta(id=None, index=index, arguments=begun), ToolCallDelta(id=None) if (
            index == event.index
        ):
            events[-1] = replace(last, arguments=begun + event.arguments, logprobs=logprobs)
        case _:
            events.append(event)
