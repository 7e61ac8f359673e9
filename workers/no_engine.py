"""Where a model has no engine."""

from __future__ import annotations

from collections.abc import Callable

from workers.engine.doors import End, Output, SequenceRequest, StepReport, StepStats

Put = Callable[[StepReport], None]


class NoEngine:
    """doors.EngineDoor of a model that generates nothing: jobs.py asks it for nothing."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self.stalled_s = 0.0
        self.dead = False

    def submit(self, request: SequenceRequest) -> None:
        """Refuse it."""
        end = End(kind="failed", error="this model gives embeddings and generates no text")
        self._put(StepReport(outputs=(Output(key=request.key, end=end),), stats=StepStats()))

    def cancel(self, key: str) -> None:
        """Nothing runs here."""

    def close(self) -> None:
        """Nothing runs here."""
