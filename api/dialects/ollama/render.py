"""Events as Ollama's lines, and a completed job as one line. Pure, but for the clock it is given.

Tool calls are objects here, so a call is held back until its arguments are whole. Arguments that
are no JSON object (the answer was cut, say) cannot be sent as one: such a call becomes text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import iter_unpack
from typing import Any, Literal, assert_never

import msgspec

from api.completed import Choice, Completed
from api.dialects.ollama import answers, errors
from api.dialects.ollama.context import packed
from shared import events
from shared.errors import CaravanError, Internal, Unavailable, error_of
from shared.messages import Message, Text, ToolCall

Shape = Literal["chat", "generate"]
Clock = Callable[[], int]

CANCELLED = "the job was cancelled before its answer was whole"
NS_A_SECOND = 1_000_000_000
NS_A_MS = 1_000_000

_encode = msgspec.json.Encoder().encode


def stamp(unix_ns: int) -> str:
    """A time as Ollama writes it: UTC, nine digits after the point."""
    seconds, rest = divmod(unix_ns, NS_A_SECOND)
    return f"{_second(seconds)}.{rest:09d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """Kept, because all lines of a second begin alike and this was most of a line's cost."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


class Pen(msgspec.Struct, frozen=True, kw_only=True):
    """Writes lines for one answer; `now_ns` is Unix time, `asked` the conversation that goes into
    the last line's `context`, None for none."""

    model: str
    shape: Shape
    now_ns: Clock
    asked: tuple[Message, ...] | None = None

    def line(
        self,
        *,
        text: str = "",
        thinking: str = "",
        calls: tuple[answers.Call, ...] = (),
        logprobs: Sequence[events.Logprob] = (),
        end: Mapping[str, Any] | None = None,
    ) -> answers.Line:
        """A line; `end` holds the members that only a last one has."""
        common: dict[str, Any] = {
            "model": self.model,
            "created_at": stamp(self.now_ns()),
            "done": end is not None,
            "logprobs": tuple(_logprob(logprob) for logprob in logprobs),
            **(end or {}),
        }
        if self.shape == "generate":
            return answers.GenerateLine(response=text, thinking=thinking, **common)
        message = answers.Message(
            role="assistant", content=text, thinking=thinking, tool_calls=calls
        )
        return answers.ChatLine(message=message, **common)

    def last(
        self, end: events.ChoiceEnd, finished: events.Finished, *, said: str
    ) -> dict[str, Any]:
        """The members that only a last line has; `said` is the whole answer."""
        if self.asked is None:
            return _end(end, finished)
        answer = Message(role="assistant", content=(Text(text=said),))
        return {**_end(end, finished), "context": packed((*self.asked, answer))}

    def moved(self, reason: Literal["load", "unload"]) -> answers.Line:
        """The answer to an empty prompt, which loads the model or lets it go."""
        return self.line(end={"done_reason": reason})

    def whole(self, completed: Completed) -> answers.Line:
        """A whole answer. Raises Unavailable when it was cancelled before it was whole."""
        choice = completed.choices[0] if completed.choices else Choice()
        if choice.end.reason == "cancelled":
            raise Unavailable(CANCELLED)
        calls, broken = called(choice.tool_calls)
        return self.line(
            text=choice.text + broken,
            thinking=choice.reasoning,
            calls=calls,
            logprobs=choice.reasoning_logprobs + choice.logprobs,
            end=self.last(choice.end, completed.finished, said=choice.text),
        )


class Stream:
    """One answer, line by line: `feed` events, then `flush`."""

    def __init__(self, pen: Pen) -> None:
        self._line = pen.line
        self._last = pen.last
        self._said: list[str] | None = None if pen.asked is None else []
        self._ended = False
        self._call: ToolCall | None = None
        self._calls = 0
        self._logprobs: list[events.Logprob] = []

    def feed(self, batch: Sequence[events.Event]) -> bytes:
        """What these events mean to the client, framed."""
        return b"".join(frame(line) for event in batch for line in self.lines(event))

    def flush(self) -> bytes:
        """Nothing, unless the events broke off."""
        return b"" if self._ended else frame(self._fail(Internal()))

    def lines(self, event: events.Event) -> list[answers.Line | answers.Error]:
        """The lines of one event."""
        match event:
            case events.TextDelta(text=text, logprobs=logprobs):
                if self._said is not None:
                    self._said.append(text)
                return [self._line(text=text, logprobs=logprobs)] if text or logprobs else []
            case events.ReasoningDelta(text=text, logprobs=logprobs):
                return [self._line(thinking=text, logprobs=logprobs)] if text or logprobs else []
            case events.ToolCallDelta():
                return self._tool(event)
            case events.Finished():
                return self._finish(event)
            case events.Failed():
                return [self._fail(error_of(event))]
            case events.Started() | events.Progress() | events.Tokens():
                return []
            case events.Vectors() | events.Scores() | events.Stored():
                return []
            case _:
                assert_never(event)

    def _tool(self, event: events.ToolCallDelta) -> list[answers.Line | answers.Error]:
        """Calls come one after the other: a new name begins the next."""
        out: list[answers.Line | answers.Error] = []
        if event.name is not None or self._call is None:
            out = self._release()
            self._call = ToolCall(id=event.id or "", name=event.name or "", arguments="")
        self._logprobs += event.logprobs
        grown = self._call.arguments + event.arguments
        self._call = msgspec.structs.replace(self._call, arguments=grown)
        return out

    def _release(self) -> list[answers.Line | answers.Error]:
        """The call that is now whole."""
        if self._call is None:
            return []
        calls, text = called((self._call,), first=self._calls)
        line = self._line(text=text, calls=calls, logprobs=self._logprobs)
        self._call, self._logprobs = None, []
        self._calls += 1
        return [line]

    def _finish(self, event: events.Finished) -> list[answers.Line | answers.Error]:
        end = event.choices[0] if event.choices else events.ChoiceEnd()
        if end.reason == "cancelled":
            return [self._fail(Unavailable(CANCELLED))]
        self._ended = True
        last = self._last(end, event, said="".join(self._said or ()))
        return [*self._release(), self._line(end=last)]

    def _fail(self, error: CaravanError) -> answers.Error:
        self._ended = True
        return errors.body(error)


def frame(line: answers.Line | answers.Error) -> bytes:
    """One line of JSON."""
    return _encode(line) + b"\n"


def called(calls: Sequence[ToolCall], *, first: int = 0) -> tuple[tuple[answers.Call, ...], str]:
    """Calls as objects, and the text of those that cannot be."""
    good: list[answers.Call] = []
    broken: list[str] = []
    for index, call in enumerate(calls, start=first):
        try:
            arguments = msgspec.json.decode(call.arguments or "{}", type=dict[str, Any])
        except msgspec.DecodeError:
            broken.append(f"{call.name} {call.arguments}")
        else:
            function = answers.CalledFunction(index=index, name=call.name, arguments=arguments)
            good.append(answers.Call(id=call.id, function=function))
    return tuple(good), "".join(broken)


def embedded(completed: Completed, *, model: str) -> answers.Embedded:
    """The answer of /api/embed."""
    end = _end(events.ChoiceEnd(), completed.finished)
    return answers.Embedded(
        model=model,
        embeddings=tuple(vectors(completed)),
        total_duration=end["total_duration"],
        load_duration=end["load_duration"],
        prompt_eval_count=end["prompt_eval_count"],
    )


def vectors(completed: Completed) -> list[tuple[float, ...]]:
    """The numbers of each input's vector."""
    found = completed.vectors
    return list(iter_unpack(f"<{found.width}f", found.data)) if found and found.width else []


def _end(end: events.ChoiceEnd, finished: events.Finished) -> dict[str, Any]:
    usage, timings = finished.usage, finished.timings
    waited_ms = timings.queue_ms + timings.load_ms
    return {
        "done_reason": "length" if end.reason == "length" else "stop",
        "total_duration": _ns(waited_ms + timings.prefill_ms + timings.decode_ms),
        "load_duration": _ns(waited_ms),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(timings.prefill_ms),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(timings.decode_ms),
    }


def _ns(ms: float) -> int:
    return round(ms * NS_A_MS)


def _logprob(logprob: events.Logprob) -> answers.Logprob:
    chosen = logprob.chosen
    return answers.Logprob(
        token=_text(chosen.token),
        logprob=chosen.logprob,
        bytes=list(chosen.token),
        top_logprobs=tuple(
            answers.Alternative(
                token=_text(other.token), logprob=other.logprob, bytes=list(other.token)
            )
            for other in logprob.top
        ),
    )


def _text(token: bytes) -> str:
    """A token as text; part of a character shows as U+FFFD, `bytes` has the truth."""
    return token.decode("utf-8", errors="replace")
