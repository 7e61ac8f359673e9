"""A stream folded into one answer, for clients that do not stream. Pure: feed, then result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from shared.errors import error_of
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Logprob,
    Progress,
    ReasoningDelta,
    Scores,
    Started,
    Stored,
    TextDelta,
    Tokens,
    ToolCallDelta,
    Vectors,
)
from shared.messages import ToolCall


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One whole choice."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[Logprob, ...] = ()
    reasoning_logprobs: tuple[Logprob, ...] = ()
    end: ChoiceEnd = ChoiceEnd()


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """All of a job that went well. What the kind of job does not have is None or empty."""

    job: str
    finished: Finished
    started: Started | None = None
    choices: tuple[Choice, ...] = ()
    vectors: Vectors | None = None
    scores: Scores | None = None
    tokens: Tokens | None = None
    stored: Stored | None = None


class _Call:
    """A tool call that grows."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def take(self, event: ToolCallDelta) -> None:
        self.id = event.id or self.id
        self.name = event.name or self.name
        self.arguments.append(event.arguments)

    def whole(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.arguments))


class _Growing:
    """A choice that grows."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.logprobs: list[Logprob] = []
        self.reasoning_logprobs: list[Logprob] = []

    def take(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> None:
        if isinstance(event, ReasoningDelta):
            self.reasoning.append(event.text)
            self.reasoning_logprobs += event.logprobs
            return
        if isinstance(event, TextDelta):
            self.text.append(event.text)
        else:
            self.calls.setdefault(event.index, _Call()).take(event)
        self.logprobs += event.logprobs

    def whole(self, end: ChoiceEnd) -> Choice:
        return Choice(
            text="".join(self.text),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(call.whole() for _, call in sorted(self.calls.items())),
            logprobs=tuple(self.logprobs),
            reasoning_logprobs=tuple(self.reasoning_logprobs),
            end=end,
        )


class Collector:
    """Feed it a job's events; ask for the result after the last."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._growing: dict[int, _Growing] = {}
        self._started: Started | None = None
        self._finished: Finished | None = None
        self._vectors: Vectors | None = None
        self._scores: Scores | None = None
        self._tokens: Tokens | None = None
        self._stored: Stored | None = None

    def feed(self, events: Iterable[Event]) -> None:
        """Take in the next events. Raises the CaravanError of a Failed among them."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta() | ReasoningDelta() | ToolCallDelta():
                self._growing.setdefault(event.choice, _Growing()).take(event)
            case Started():
                self._started = event
            case Vectors():
                self._vectors = event
            case Scores():
                self._scores = event
            case Tokens():
                self._tokens = event
            case Stored():
                self._stored = event
            case Finished():
                self._finished = event
            case Failed():
                raise error_of(event)
            case Progress():
                pass
            case _:
                assert_never(event)

    def result(self) -> Completed:
        """The answer; only after Finished."""
        assert self._finished is not None
        return Completed(
            job=self._job,
            finished=self._finished,
            started=self._started,
            choices=tuple(
                self._growing.get(n, _Growing()).whole(end)
                for n, end in enumerate(self._finished.choices)
            ),
            vectors=self._vectors,
            scores=self._scores,
            tokens=self._tokens,
            stored=self._stored,
        )
