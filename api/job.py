"""One accepted request, followed from the queue to its last event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import msgspec
import structlog
from redis.exceptions import RedisError

from api.inbox import Mailbox
from shared.errors import CaravanError, Internal, QueueDown, Unavailable
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from shared.queue import Ticket
from shared.requests import Request

if TYPE_CHECKING:
    from api.service import Service

log = structlog.get_logger()

OUTAGE_S = 60.0  # a stream that cannot reach Redis for so long ends as failed
OUTAGE_PAUSE_S = 0.25
DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)


class Wait(msgspec.Struct, frozen=True):
    """What a queued job waits for: its place from 1, when its turn comes, and how far its model is
    loaded where no worker has it yet. None: not known, or not so."""

    position: int
    eta_s: float | None = None
    loading_percent: int | None = None


class Job:
    """One accepted request, followed to its end. Use as `async with`, take its events once. One
    that `stays` goes on when nobody follows it any more."""

    def __init__(
        self,
        service: Service,
        request: Request,
        ticket: Ticket,
        box: Mailbox,
        *,
        stays: bool = False,
    ) -> None:
        self.request = request
        self.id = request.id
        self.model = request.model
        self.ticket = ticket
        self.place = ticket.position  # in the queue, from 1; 0 = a worker has it
        self.end: Finished | Failed | None = None
        self._service = service
        self.box = box
        self._stays = stays
        self._began_s = self._last_s = time.monotonic()
        self._gap_s = service.metrics.gap_s.labels(self.model)  # once: labels() costs as a token
        self._spoke = False
        self._down_since_s: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Done with it: cancels the job unless it has ended or stays. Safe to call twice."""
        if self._service.forget(self) and self.end is None and not self._stays:
            self._service.metrics.requests.labels(self.model, self._kind, "left").inc()
            await self.cancel()

    async def cancel(self) -> None:
        """Stop the job wherever it is; returns when Redis has been told, or could not be."""
        with anyio.CancelScope(shield=True):
            await self._service.cancel(self.model, job=self.id)

    async def position(self) -> int:
        """Ask for the place in the queue, from 1; 0 once claimed. Raises redis.RedisError."""
        self.place = await self._service.queue.position(
            self.model, job=self.id, lane=self.request.lane
        )
        return self.place

    async def wait(self) -> Wait:
        """What it waits for, as far as that is known."""
        fleet = self._service.fleet
        try:
            eta_s = await fleet.wait_s(self.model, jobs=self.place)
            percent = await fleet.loading_percent(self.model)
        except (RedisError, OSError):
            return Wait(self.place)
        return Wait(self.place, eta_s, percent)

    async def batches(self) -> AsyncIterator[tuple[Event, ...]]:
        """All events, several at a time; the last one is Finished or Failed."""
        while self.end is None:
            if events := await self.take():
                yield events

    async def take(self, *, wait_s: float | None = None) -> tuple[Event, ...]:
        """More events; () after `wait_s` of silence (default: `heal_after_s`).

        After a silence `place` is fresh. Raises nothing: what goes wrong is a Failed.
        """
        try:
            events = await self._next(wait_s or self._service.settings.heal_after_s)
            self._down_since_s = None
        except (RedisError, OSError) as error:
            events = await self._sit_out(error)
        except Internal as error:  # the journal has a hole
            events = await self._give_up(error)
        if events:
            self._note(events)
        return events

    async def _next(self, wait_s: float) -> tuple[Event, ...]:
        events = await self.box.take(wait_s)
        if events is not None:
            return events
        if self.place and await self.position():
            return ()  # still queued: there is no journal yet
        if not await self._service.silences.missed(self.id, known=self.box.known):
            return ()
        return await self.box.heal() or await self._end_unsaid()

    async def _end_unsaid(self) -> tuple[Event, ...]:
        """The end of a job that ended without a frame: removed while queued, or lost by Redis."""
        match await self._service.queue.state(self.id):
            case None:
                lost = "the queue lost this job (was Redis restarted without its file?); send again"
                return (Unavailable(lost).event(),)
            case "cancelled":
                choices = getattr(self.request, "choices", 0)
                return (Finished(choices=(ChoiceEnd(reason="cancelled"),) * choices),)
            case _:
                return ()

    async def _sit_out(self, error: Exception) -> tuple[Event, ...]:
        now_s = time.monotonic()
        self._down_since_s = self._down_since_s or now_s
        if now_s - self._down_since_s > OUTAGE_S:
            return await self._give_up(QueueDown())
        log.warning("journal.unreachable", job=self.id, error=str(error))
        await asyncio.sleep(OUTAGE_PAUSE_S)
        return ()

    async def _give_up(self, error: CaravanError) -> tuple[Event, ...]:
        await self.cancel()
        return (error.event(),)

    def _note(self, events: tuple[Event, ...]) -> None:
        self.place = 0
        if isinstance(events[-1], Finished | Failed):
            self._ended(events[-1])
        if deltas := sum(isinstance(event, DELTAS) for event in events):
            self._timed(deltas)

    def _timed(self, deltas: int) -> None:
        now_s = time.monotonic()
        if self._spoke:
            self._gap_s.observe((now_s - self._last_s) / deltas)
        else:
            self._service.metrics.ttft_s.labels(self.model).observe(now_s - self._began_s)
        self._spoke, self._last_s = True, now_s

    def _ended(self, end: Finished | Failed) -> None:
        self.end = end
        metrics = self._service.metrics
        outcome = "ok" if isinstance(end, Finished) else end.code
        metrics.requests.labels(self.model, self._kind, outcome).inc()
        if isinstance(end, Finished):
            metrics.wait_s.labels(self.model).observe(end.timings.queue_ms / 1000)
            metrics.tokens.labels(self.model, "prompt").inc(end.usage.prompt_tokens)
            metrics.tokens.labels(self.model, "cached").inc(end.usage.cached_tokens)
            metrics.tokens.labels(self.model, "completion").inc(end.usage.completion_tokens)

    @property
    def _kind(self) -> str:
        return type(self.request).__name__.lower()
