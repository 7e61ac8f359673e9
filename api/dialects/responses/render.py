"""Responses, whole and streamed, from canonical events. Pure.

There is one way an answer comes together: a whole answer is what the stream's last event holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, assert_never

import msgspec

from api.dialects.responses import answers as wire
from api.dialects.responses import parse, types
from api.dialects.responses.errors import of_response
from api.dialects.responses.growing import Call, Growing, Place, Summary, Text, Thought
from shared.errors import error_of
from shared.events import (
    Event,
    Failed,
    Finished,
    Progress,
    ReasoningDelta,
    Scores,
    Started,
    Stored,
    TextDelta,
    Tokens,
    ToolCallDelta,
    Usage,
    Vectors,
)
from shared.requests import Chat, Generate

encode = msgspec.json.Encoder().encode


def head(asked: types.CreateResponse, run: Generate, *, created: int) -> wire.Response:
    """The response before anything was said: the request's echo, with what holds by default."""
    chat = run.input
    assert isinstance(chat, Chat)
    return wire.Response(
        id=run.id,
        created_at=created,
        instructions=asked.instructions,
        max_output_tokens=asked.max_output_tokens,
        max_tool_calls=asked.max_tool_calls,
        metadata=asked.metadata or {},
        model=run.model,
        status="queued" if asked.background else "in_progress",
        background=bool(asked.background),
        parallel_tool_calls=chat.tool_choice.parallel,
        previous_response_id=asked.previous_response_id,
        prompt_cache_key=asked.prompt_cache_key,
        reasoning=_effort(asked),
        reasoning_effort=parse.effort(asked),
        safety_identifier=asked.safety_identifier,
        service_tier="flex" if run.lane == "batch" else "default",
        store=asked.store is not False,
        temperature=run.sampling.temperature,
        text={"format": {"type": "text"}, **_plain(asked.text)},
        tool_choice=_plain(asked.tool_choice) or "auto",
        tools=tuple(
            {"type": "function", **msgspec.to_builtins(tool)} for tool in parse.tools(asked)
        ),
        top_logprobs=run.logprobs or 0,
        top_p=run.sampling.top_p,
        user=asked.user,
    )


class Assembly:
    """Events in, the response's own events out. `response` is the answer so far, `first` the place
    of its first item: behind its input."""

    def __init__(
        self,
        response: wire.Response,
        *,
        first: int = 1,
        summarise: bool = False,
        seal: bool = False,
        clock: Callable[[], float],
    ) -> None:
        self.response = response
        self._first = first
        self._summarise = summarise
        self._seal = seal
        self._clock = clock
        self._number = -1
        self._begun = False
        self._items: list[wire.Item] = []
        self._open: Growing | None = None

    def queued(self) -> Iterator[wire.Numbered]:
        """What a response in the background says before anything has happened."""
        yield wire.Created(sequence_number=self._next(), response=self.response)
        yield wire.Queued(sequence_number=self._next(), response=self.response)

    def feed(self, events: Sequence[Event]) -> Iterator[wire.Numbered]:
        """What the next events amount to, in the official order."""
        if events and not self._begun:
            self._begun = True
            if not self.response.background:
                yield wire.Created(sequence_number=self._next(), response=self.response)
            self.response = msgspec.structs.replace(self.response, status="in_progress")
            yield wire.InProgress(sequence_number=self._next(), response=self.response)
        for event in events:
            yield from self._of(event)

    def so_far(self) -> wire.Response:
        """The response with what there is of it."""
        growing = (self._open.item("in_progress"),) if self._open else ()
        return self._with((*self._items, *growing))

    def _of(self, event: Event) -> Iterable[wire.Numbered]:
        match event:
            case TextDelta():
                return self._text(event)
            case ReasoningDelta():
                return self._reasoning(event)
            case ToolCallDelta():
                return self._call(event)
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event)
            case Started() | Progress() | Vectors() | Scores() | Tokens() | Stored():
                return ()
            case _:
                assert_never(event)

    def _text(self, event: TextDelta) -> Iterator[wire.Numbered]:
        if not event.text and not event.logprobs:
            return
        item = self._open
        if not isinstance(item, Text):
            item = Text(self._place())
            yield from self._begin(item)
        yield from item.more(event.text, event.logprobs)

    def _reasoning(self, event: ReasoningDelta) -> Iterator[wire.Numbered]:
        if not event.text:
            return
        item = self._open
        if not isinstance(item, Thought):
            kind = Summary if self._summarise else Thought
            item = kind(self._place(), seal=self._seal)
            yield from self._begin(item)
        yield from item.more(event.text)

    def _call(self, event: ToolCallDelta) -> Iterator[wire.Numbered]:
        item = self._open
        if not isinstance(item, Call) or item.index != event.index:
            item = Call(
                self._place(), index=event.index, call=event.id or "", name=event.name or ""
            )
            yield from self._begin(item)
        if event.arguments:
            yield from item.more(event.arguments)

    def _place(self) -> Place:
        """Where the next item will stand, the open one counted."""
        index = len(self._items) + (self._open is not None)
        return Place(
            response=self.response.id, place=self._first + index, index=index, number=self._next
        )

    def _begin(self, item: Growing) -> Iterator[wire.Numbered]:
        yield from self._close("completed")
        self._open = item
        yield from item.begin()

    def _close(self, status: wire.Status) -> Iterator[wire.Numbered]:
        if self._open is None:
            return
        yield from self._open.end(status)
        self._items.append(self._open.item(status))
        self._open = None

    def _finish(self, event: Finished) -> Iterator[wire.Numbered]:
        reason = event.choices[0].reason if event.choices else "cancelled"
        if self._open is None and not self._items:  # a silent answer is an empty message
            yield from self._begin(Text(self._place()))
        whole = reason in ("stop", "tool_calls")
        yield from self._close("completed" if whole else "incomplete")
        if whole:
            self._end("completed", usage=usage(event.usage), completed_at=int(self._clock()))
            yield wire.Completed(sequence_number=self._next(), response=self.response)
            return
        cut = wire.Incomplete(reason="max_output_tokens") if reason == "length" else None
        self._end(
            "incomplete" if cut else "cancelled", usage=usage(event.usage), incomplete_details=cut
        )
        yield wire.IncompleteEnd(sequence_number=self._next(), response=self.response)

    def _fail(self, event: Failed) -> Iterator[wire.Numbered]:
        error = of_response(error_of(event))
        if self._open is not None:
            self._items.append(self._open.item("incomplete"))
        self._end("failed", error=error)
        yield wire.Error(
            sequence_number=self._next(),
            code=error.code,
            message=error.message,
            param=error.param,
        )
        yield wire.FailedEnd(sequence_number=self._next(), response=self.response)

    def _end(self, status: wire.Ending, **more: Any) -> None:
        self.response = self._with(tuple(self._items), status=status, **more)

    def _with(self, output: tuple[wire.Item, ...], **more: Any) -> wire.Response:
        said = [item for item in output if isinstance(item, wire.Message)]
        text = "".join(part.text for item in said for part in item.content)
        return msgspec.structs.replace(self.response, output=output, output_text=text, **more)

    def _next(self) -> int:
        self._number += 1
        return self._number


class Stream:
    """The renderer of one stream: an assembly's events, framed; those behind number `after`."""

    def __init__(self, assembly: Assembly, *, after: int = -1) -> None:
        self._assembly = assembly
        self._after = after

    def opening(self) -> bytes:
        """What a stream in the background begins with."""
        return self._framed(self._assembly.queued())

    def feed(self, events: Sequence[Event]) -> bytes:
        """The wire bytes of the next events."""
        return self._framed(self._assembly.feed(events))

    def _framed(self, told: Iterable[wire.Numbered]) -> bytes:
        if self._after >= 0:
            told = (one for one in told if one.sequence_number > self._after)
        return b"".join(map(framed, told))


def framed(event: wire.Numbered) -> bytes:
    """One SSE event, under its own name."""
    name = str(event.__struct_config__.tag).encode()
    return b"event: " + name + b"\ndata: " + encode(event) + b"\n\n"


def usage(used: Usage) -> wire.Usage:
    """Token counts with their details."""
    return wire.Usage(
        input_tokens=used.prompt_tokens,
        input_tokens_details=wire.InputDetails(cached_tokens=used.cached_tokens),
        output_tokens=used.completion_tokens,
        output_tokens_details=wire.OutputDetails(reasoning_tokens=used.reasoning_tokens),
        total_tokens=used.total_tokens,
    )


def _effort(asked: types.CreateResponse) -> wire.Effort:
    wanted = asked.reasoning
    summary = (wanted.summary or wanted.generate_summary) if wanted else None
    return wire.Effort(effort=parse.effort(asked), summary=summary)


def _plain(value: Any) -> Any:
    """A Struct as it was sent: without what was left out."""
    plain = msgspec.to_builtins(value)
    if not isinstance(plain, dict):
        return plain if value is not None else {}
    return {name: found for name, found in plain.items() if found is not None}
