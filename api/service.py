"""Requests in, jobs out: enqueue, follow, cancel. What every dialect's routes call.

A job belongs to one `async with`: leaving it, however one leaves, cancels what has not ended. The
cancel runs as a task of its own behind a shield, because an await in a cancelled task is cut short;
what Redis could not be told (it was down) is told when the subscription is open again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.completed import Collector, Completed
from api.faults import HTTPRequest
from api.fleet import Fleet
from api.inbox import Inbox, Mailbox
from api.metrics import Metrics
from shared.errors import (
    CaravanError,
    Internal,
    QueueDown,
    QueueFull,
    Unavailable,
    UnknownModel,
)
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from shared.queue import Queue, Ticket
from shared.requests import Chat, Embed, Generate, Prompt, Request, Rerank
from shared.settings import Settings

log = structlog.get_logger()

OUTAGE_S = 60.0  # a stream that cannot reach Redis for so long ends as failed
OUTAGE_PAUSE_S = 0.25
RETRY_AFTER_S = 1.0  # where the drain rate is not known
RETRY_AFTER_MOST_S = 60.0
CHARACTERS_A_TOKEN = 4
TOKENS_OF_AN_ANSWER = 256  # where max_tokens is not given
CLOSE_WAIT_S = 3.0
DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)


def new_id(prefix: str) -> str:
    """An id for a job and its answer: `chatcmpl-<32 hex digits>`."""
    return f"{prefix}{uuid.uuid4().hex}"


def cost_of(request: Request) -> float:
    """Estimated tokens of prompt and answer: what fairness is counted in."""
    match request:
        case Generate(input=Chat(messages=messages)):
            characters = sum(len(message.text) for message in messages)
        case Generate(input=Prompt(text=text, tokens=tokens)):
            characters = len(text or "") + CHARACTERS_A_TOKEN * len(tokens or ())
        case Embed(inputs=inputs):
            characters = sum(len(i) if isinstance(i, str) else 4 * len(i) for i in inputs)
        case Rerank(query=query, documents=documents):
            characters = sum(len(document) + len(query) for document in documents)
        case _:
            characters = CHARACTERS_A_TOKEN
    answer = 0
    if isinstance(request, Generate):
        answer = request.choices * (request.max_tokens or TOKENS_OF_AN_ANSWER)
    return characters / CHARACTERS_A_TOKEN + answer


class Job:
    """One accepted request, followed to its end. Use as `async with`, take its events once."""

    def __init__(self, service: Service, request: Request, ticket: Ticket, box: Mailbox) -> None:
        self.request = request
        self.id = request.id
        self.model = request.model
        self.ticket = ticket
        self.place = ticket.position  # in the queue, from 1; 0 = a worker has it
        self.end: Finished | Failed | None = None
        self._service = service
        self._box = box
        self._began_s = self._last_s = time.monotonic()
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
        """Done with it: cancels the job unless it has ended. Safe to call twice."""
        if self._service.forget(self) and self.end is None:
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

    async def eta_s(self) -> float | None:
        """How long until it is claimed, None when nobody knows."""
        try:
            return await self._service.fleet.wait_s(self.model, jobs=self.place)
        except (RedisError, OSError):
            return None

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
        events = await self._box.take(wait_s)
        if events is not None:
            return events
        if self.place and await self.position():
            return ()  # still queued: there is no journal yet
        return await self._box.heal() or await self._end_unsaid()

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
        now_s, metrics = time.monotonic(), self._service.metrics
        if self._spoke:
            metrics.gap_s.labels(self.model).observe((now_s - self._last_s) / deltas)
        else:
            metrics.ttft_s.labels(self.model).observe(now_s - self._began_s)
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


def service_of(http: HTTPRequest) -> Service:
    """The process's Service, from a request to it."""
    service: Service = http.app.state.service
    return service


class Service:
    """The queue as the api sees it. One a process, open while `running` is entered."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.redis = redis
        self.settings = settings
        self.id = uuid.uuid4().hex[:12]
        self.queue = Queue(redis, lease_ms=settings.lease_ms, max_attempts=settings.max_attempts)
        self.inbox = Inbox(redis, self.id)
        self.fleet = Fleet(redis)
        self.metrics = Metrics()
        self._jobs: set[str] = set()
        self._cancels: set[asyncio.Task[None]] = set()
        self._untold: dict[str, str] = {}  # job -> model: cancels Redis has not heard
        self.inbox.when_opened(self._tell_cancels)
        self.metrics.open_jobs.set_function(lambda: len(self._jobs))

    async def start(self, request: Request) -> Job:
        """Make the request a job. The inbox is open before it is enqueued.

        Raises UnknownModel, QueueFull (with `retry_after_s`), QueueDown.
        """
        box = await self.inbox.open(request.id)
        self._jobs.add(request.id)
        try:
            request, ticket = await self._enqueue_by_any_name(request)
        except BaseException as error:
            self.inbox.close(request.id)
            self._jobs.discard(request.id)
            if isinstance(error, asyncio.CancelledError | QueueDown):  # it may have been accepted
                with anyio.CancelScope(shield=True):
                    await self.cancel(request.model, job=request.id)
            raise
        return Job(self, request, ticket, box)

    async def collect(self, job: Job) -> Completed:
        """The whole answer. Raises the CaravanError of a job that failed."""
        collector = Collector(job.id)
        async for events in job.batches():
            collector.feed(events)
        return collector.result()

    async def cancel(self, model: str, *, job: str) -> None:
        """Stop a job. Never raises: what cannot be told now is told when Redis is back."""
        task = asyncio.create_task(self._cancel(model, job))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)
        await asyncio.wait({task})

    def forget(self, job: Job) -> bool:
        """Close its mailbox; False when that was done before."""
        self.inbox.close(job.id)
        known = job.id in self._jobs
        self._jobs.discard(job.id)
        return known

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear frames while inside; at the end wait a little for cancels that are under way."""
        async with self.inbox.running():
            yield
            if self._cancels:
                await asyncio.wait(self._cancels, timeout=CLOSE_WAIT_S)

    async def _enqueue_by_any_name(self, request: Request) -> tuple[Request, Ticket]:
        """The catalog is asked for aliases and IDs only where the name itself is not known."""
        try:
            return request, await self._enqueue(request)
        except UnknownModel:
            try:
                card = await self.fleet.find(request.model)
            except (RedisError, OSError) as error:
                raise QueueDown from error
            request = msgspec.structs.replace(request, model=card.ref)
            return request, await self._enqueue(request)

    async def _enqueue(self, request: Request) -> Ticket:
        settings = self.settings
        wait_ms = int(1000 * settings.queue_timeout_s)
        try:
            return await self.queue.enqueue(
                request,
                reply=self.inbox.channel,
                cost=cost_of(request),
                max_queue=settings.max_queue,
                deadline_ms=time.time_ns() // 1_000_000 + wait_ms if wait_ms else 0,
            )
        except QueueFull as error:
            raise QueueFull(
                error.message, retry_after_s=await self._retry_after_s(request.model)
            ) from None
        except (RedisError, OSError) as error:
            log.warning("enqueue.failed", job=request.id, error=str(error))
            raise QueueDown from error

    async def _retry_after_s(self, model: str) -> float:
        """When a tenth of a full queue will have drained; a second where nobody knows."""
        try:
            wait_s = await self.fleet.wait_s(model, jobs=max(1, self.settings.max_queue // 10))
        except (RedisError, OSError):
            wait_s = None
        return min(wait_s or RETRY_AFTER_S, RETRY_AFTER_MOST_S)

    async def _cancel(self, model: str, job: str) -> None:
        try:
            await self.queue.cancel(model, job=job)
        except (RedisError, OSError) as error:
            log.warning("cancel.untold", job=job, error=str(error))
            self._untold[job] = model

    async def _tell_cancels(self) -> None:
        untold, self._untold = self._untold, {}
        for job, model in untold.items():
            await self._cancel(model, job)
