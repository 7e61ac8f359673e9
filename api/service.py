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

import anyio
import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.admission import cost_of, new_id
from api.completed import Collector, Completed
from api.configs import Configs
from api.faults import HTTPRequest
from api.fleet import Fleet
from api.inbox import Inbox, Mailbox
from api.job import Job
from api.links import Links
from api.metrics import Metrics
from api.silences import Silences
from shared.errors import (
    QueueDown,
    QueueFull,
    UnknownModel,
)
from shared.queue import Queue, Ticket
from shared.requests import Request
from shared.settings import Settings

log = structlog.get_logger()

RETRY_AFTER_S = 1.0  # where the drain rate is not known
RETRY_AFTER_MOST_S = 60.0
CLOSE_WAIT_S = 3.0
CLOSE_STEP_S = 0.01

__all__ = ["Job", "Service", "new_id", "service_of"]


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
        self.silences = Silences(self.queue)
        self.fleet = Fleet(redis)
        self.configs = Configs(redis)
        self.links = Links(settings)
        self.metrics = Metrics()
        self._open: set[Mailbox] = set()
        self._cancels: set[asyncio.Task[None]] = set()
        self._untold: dict[str, str] = {}  # job -> model: cancels Redis has not heard
        self.inbox.when_opened(self._tell_cancels)
        self.metrics.open_jobs.set_function(lambda: len(self._open))

    async def start(self, request: Request, *, keep_s: int = 0) -> Job:
        """Make the request a job. The inbox is open before it is enqueued. With `keep_s` it stays
        when its caller leaves, and so does its journal for so long after the end.

        Raises UnknownModel, CannotLoad, QueueFull (with `retry_after_s`), QueueDown; RequestError
        for images that it names by a URL.
        """
        request = await self.links.fetched(request)
        box = await self.inbox.open(request.id)
        self._open.add(box)
        try:
            request, ticket = await self._enqueue_by_any_name(request, keep_s)
        except BaseException as error:
            self._close(box)
            if isinstance(error, asyncio.CancelledError | QueueDown):  # it may have been accepted
                with anyio.CancelScope(shield=True):
                    await self.cancel(request.model, job=request.id)
            raise
        return Job(self, request, ticket, box, stays=keep_s > 0)

    async def follow(self, request: Request) -> Job:
        """A job that stays, from its first event: of `request` only id, model, lane and choices
        matter. Its frames come to this process from now on, whoever followed it before reads the
        journal. Raises QueueDown, redis.RedisError."""
        box = await self.inbox.open(request.id)
        box.doubt()
        self._open.add(box)
        job = Job(self, request, Ticket(0, 0), box, stays=True)
        try:
            await self.queue.redirect(request.id, reply=self.inbox.channel)
            await job.position()
        except BaseException:
            self.forget(job)
            raise
        return job

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
        known = job.box in self._open
        self._close(job.box)
        return known

    def _close(self, box: Mailbox) -> None:
        self.inbox.close(box)
        self._open.discard(box)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hear frames while inside; at the end wait a little for cancels that are under way."""
        async with self.inbox.running():
            yield
            with anyio.move_on_after(CLOSE_WAIT_S):
                await self._settled()

    async def _settled(self) -> None:
        """Until no job is open and no cancel under way; a server that was told to stop for good has
        cancelled its requests, and their cleaning up takes a few turns of the loop."""
        while self._open or self._cancels:  # noqa: ASYNC110 - once, at the very end
            await asyncio.sleep(CLOSE_STEP_S)

    async def _enqueue_by_any_name(self, request: Request, keep_s: int) -> tuple[Request, Ticket]:
        """The catalog is asked for aliases and IDs only where the name itself is not known."""
        try:
            return request, await self._enqueue(request, keep_s)
        except UnknownModel:
            try:
                card = await self.fleet.find(request.model)
            except (RedisError, OSError) as error:
                raise QueueDown from error
            request = msgspec.structs.replace(request, model=card.ref)
            return request, await self._enqueue(request, keep_s)

    async def _enqueue(self, request: Request, keep_s: int) -> Ticket:
        settings = self.settings
        wait_ms = int(1000 * settings.queue_timeout_s)
        try:
            await self.fleet.require_home(request.model)
            return await self.queue.enqueue(
                await self.configs.applied(request),
                reply=self.inbox.channel,
                cost=cost_of(request),
                max_queue=settings.max_queue,
                deadline_ms=time.time_ns() // 1_000_000 + wait_ms if wait_ms else 0,
                keep_s=keep_s,
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
