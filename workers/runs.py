"""One claimed job as its worker knows it: what it still has to say, and under which epoch."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Sequence

from shared import codec
from shared.errors import CaravanError
from shared.events import Event, Failed, Finished, Frame, TokenRun
from shared.queue import Claim, Emit, Ending
from workers.engine.doors import Output


class Run:
    """Collects a job's events and tokens between two writes and cuts them into frames.

    `number` is the next event's. `over` resolves when the job is out of this worker's hands:
    its end is written, it was handed back, or another worker has it.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.key = f"{claim.job}:{claim.epoch}"
        self.number = 1
        self.tenant = "open"
        self.enqueued_s = 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.claimed_s = time.monotonic()
        self.written_s = self.claimed_s
        self.first_text_s: float | None = None
        self.urgent = True
        self.stopped = False
        self.hand_back = False
        self.terminal: Finished | Failed | None = None
        self._events: list[Event] = []
        self._tokens: dict[int, list[int]] = {}
        self._on_stop: list[Callable[[], None]] = []

    @property
    def job(self) -> str:
        """The job's id."""
        return self.claim.job

    @property
    def dirty(self) -> bool:
        """Whether there is something to write now; tokens without events wait for their text."""
        return bool(self._events) or self.terminal is not None or self.hand_back

    @property
    def pressing(self) -> bool:
        """Whether it must be written at once: a beginning or an end."""
        return self.dirty and (self.urgent or self.terminal is not None or self.hand_back)

    def on_stop(self, act: Callable[[], None]) -> None:
        """Do this when nobody wants the run any more; at once if that is so already."""
        if self.stopped:
            act()
        else:
            self._on_stop.append(act)

    def stop(self) -> None:
        """Nobody wants it any more."""
        self.stopped = True
        acts, self._on_stop = self._on_stop, []
        for act in acts:
            act()

    def say(self, *events: Event) -> None:
        """Add events that come from no token."""
        self._events += events

    def take(self, output: Output) -> None:
        """Add what one engine step made."""
        for choice, ids in output.tokens:
            self._tokens.setdefault(choice, []).extend(ids)
        self._events += output.events
        if output.tokens and self.first_text_s is None:
            self.first_text_s = time.monotonic()

    def end(self, event: Finished | Failed) -> None:
        """The last event; a second one is ignored, the first stands."""
        if self.terminal is None:
            self.terminal = event

    def fail(self, error: CaravanError) -> None:
        """End with an error."""
        self.end(error.event())

    def leave(self) -> None:
        """It is not ours any more: forget what was not written."""
        self._events, self._tokens = [], {}
        self.terminal, self.hand_back = None, False
        if not self.over.done():
            self.over.set_result(None)

    def cut(self) -> Emit | Ending | None:
        """What is to be written now, as one frame; None when there is nothing."""
        if self.terminal is not None:
            return self._ending(self.terminal)
        if not self._events:
            return None
        return self._emit(self._events)

    def beat(self) -> Emit:
        """A write that only keeps the lease."""
        return Emit(self.job, self.claim.epoch, self.number, b"")

    def _emit(self, events: Sequence[Event]) -> Emit:
        frame = Frame(self.job, self.number, tuple(events), self._token_runs())
        emit = Emit(self.job, self.claim.epoch, self.number, codec.encode(frame))
        self.number = frame.next_number
        self.urgent = self.first_text_s is None
        self._events, self._tokens = [], {}
        return emit

    def _ending(self, terminal: Finished | Failed) -> Ending:
        emit = self._emit([*self._events, terminal])
        if isinstance(terminal, Failed):
            return Ending(emit=emit, tenant=self.tenant, failed=True)
        usage = terminal.usage
        return Ending(
            emit=emit,
            tenant=self.tenant,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )

    def _token_runs(self) -> tuple[TokenRun, ...]:
        return tuple(TokenRun(choice, pack_ids(ids)) for choice, ids in self._tokens.items())


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as int32 little-endian."""
    return array("i", ids).tobytes()


def unpack_ids(data: bytes) -> list[int]:
    """The ids in `pack_ids`' bytes."""
    return array("i", data).tolist()


def journaled_tokens(frames: Sequence[Frame], *, choices: int) -> tuple[tuple[int, ...], ...]:
    """Each choice's token ids as the journal has them."""
    ids: list[list[int]] = [[] for _ in range(choices)]
    for frame in frames:
        for run in frame.tokens:
            ids[run.choice] += unpack_ids(run.ids)
    return tuple(map(tuple, ids))
