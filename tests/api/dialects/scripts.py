"""What a worker may say, for every renderer to be shown: a name, and the events of one job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from api.completed import Collector, Completed
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Logprob,
    Progress,
    ReasoningDelta,
    Started,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)

STOPPED = ChoiceEnd()
TIMINGS = Timings(queue_ms=1.5, load_ms=2.25, prefill_ms=10.0, decode_ms=20.5)


def ended(end: ChoiceEnd = STOPPED, *, completion: int = 2, reasoning: int = 0) -> Finished:
    """A good end with counts and times."""
    return Finished(
        choices=(end,),
        usage=Usage(
            prompt_tokens=9,
            completion_tokens=completion,
            cached_tokens=4,
            reasoning_tokens=reasoning,
        ),
        timings=TIMINGS,
    )


PLAIN: tuple[Event, ...] = (
    Started(prompt_tokens=9, worker="w1"),
    Progress(stage="prefill", done=9, total=9),
    TextDelta(text="Héllo "),
    TextDelta(text="wörld"),
    ended(),
)
TOOLS: tuple[Event, ...] = (
    Started(prompt_tokens=9),
    ReasoningDelta(text="Let me "),
    ReasoningDelta(text="look."),
    TextDelta(text="One moment."),
    ToolCallDelta(index=0, id="call_a", name="weather"),
    ToolCallDelta(index=0, arguments='{"city":'),
    ToolCallDelta(index=0, arguments=' "Oslo"}'),
    ToolCallDelta(index=1, id="call_b", name="clock", arguments="{}"),
    ended(ChoiceEnd(reason="tool_calls"), completion=12, reasoning=4),
)
SCRIPTS: dict[str, tuple[Event, ...]] = {
    "plain": PLAIN,
    "tools": TOOLS,
    "stop": (
        Started(prompt_tokens=9),
        TextDelta(text="one, two"),
        ended(ChoiceEnd(reason="stop", stop="three")),
    ),
    "length": (
        Started(prompt_tokens=9),
        ToolCallDelta(index=0, id="call_a", name="weather", arguments='{"city": "Os'),
        ended(ChoiceEnd(reason="length")),
    ),
    "moved": (
        Started(prompt_tokens=9),
        TextDelta(text="a"),
        *PLAIN[:1],
        TextDelta(text="b"),
        ended(),
    ),
    "silent": (Started(prompt_tokens=9), ended(completion=0)),
    "failed": (
        Started(prompt_tokens=9),
        TextDelta(text="Hel"),
        Failed(code="worker_crashed", message="it is given up"),
    ),
    "cancelled": (
        Started(prompt_tokens=9),
        TextDelta(text="Hel"),
        ended(ChoiceEnd(reason="cancelled")),
    ),
}
GOOD = ("plain", "tools", "stop", "length", "moved", "silent")


def logprob(token: bytes, *, at: float = -0.5) -> Logprob:
    """A token, and one it could have been."""
    return Logprob(TokenLogprob(token, at), (TokenLogprob(token, at), TokenLogprob(b"\xff", -2.5)))


def completed(events: Sequence[Event], *, job: str = "job_1") -> Completed:
    """What a blocking client's route is given. Raises the error of a job that failed."""
    collector = Collector(job)
    collector.feed(events)
    return collector.result()


def every_batching(events: Sequence[Event]) -> Iterator[list[Sequence[Event]]]:
    """The same events in two batches, cut at every place, and one by one."""
    for cut in range(len(events) + 1):
        yield [events[:cut], events[cut:]]
    yield [[event] for event in events]


def every_cut(events: Sequence[Event]) -> Iterator[list[Event]]:
    """The same text in other pieces: each delta cut in two at every place."""
    for place, event in enumerate(events):
        for left, right in _halves(event):
            yield [*events[:place], left, right, *events[place + 1 :]]


def _halves(event: Event) -> Iterator[tuple[Event, Event]]:
    match event:
        case TextDelta(text=text) | ReasoningDelta(text=text):
            for cut in range(len(text) + 1):
                yield (
                    msgspec.structs.replace(event, text=text[:cut]),
                    msgspec.structs.replace(event, text=text[cut:]),
                )
        case ToolCallDelta(arguments=text, index=index):
            for cut in range(len(text) + 1):
                yield (
                    msgspec.structs.replace(event, arguments=text[:cut]),
                    ToolCallDelta(index=index, arguments=text[cut:]),
                )
        case _:
            return
