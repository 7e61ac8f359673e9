"""An engine whose steps the test makes by hand: submit and cancel are recorded, `step` delivers."""

from __future__ import annotations

from collections.abc import Callable

from shared.events import ChoiceEnd, Event, TextDelta
from workers.engine.doors import End, EndKind, Output, SequenceRequest, StepReport, StepStats


class HandEngine:
    """Implements doors.EngineDoor without a thread."""

    def __init__(self, deliver: Callable[[StepReport], None]) -> None:
        self.deliver = deliver
        self.submitted: dict[str, SequenceRequest] = {}
        self.cancelled: list[str] = []
        self.stalled_s = 0.0
        self.dead = False
        self.closed = False

    def submit(self, request: SequenceRequest) -> None:
        self.submitted[request.key] = request

    def cancel(self, key: str) -> None:
        self.cancelled.append(key)

    def close(self) -> None:
        self.closed = True

    def step(self, *outputs: Output) -> None:
        """Deliver one step."""
        self.deliver(StepReport(outputs=outputs, stats=StepStats(running=len(outputs))))


def token(key: str, number: int, *, text: str | None = None, end: End | None = None) -> Output:
    """One token `number` with its text; no event when `text` is empty (held back)."""
    word = f"t{number} " if text is None else text
    events: tuple[Event, ...] = (TextDelta(text=word),) if word else ()
    return Output(key=key, tokens=((0, (number,)),), events=events, end=end)


def end(kind: EndKind = "finished", completion: int = 0) -> End:
    """The engine's last word."""
    return End(kind=kind, choices=(ChoiceEnd(),), completion_tokens=completion, error="broken")
