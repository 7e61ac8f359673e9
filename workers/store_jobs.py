"""The worker's second trade: jobs on its model store, claimed, leased and journaled as any other.

Two queues, that of all stores and that of this one, with a claimer of their own, so that a model's
jobs and the store's never wait for each other. A pull whose worker dies is claimed by another that
has a store, which goes on with what is on its disk; bodies that were being read cannot be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from arq.connections import ArqRedis
from msgspec.structs import replace
from redis.exceptions import RedisError

from shared import bus, codec, keys
from shared.control import Cancel
from shared.errors import RequestError
from shared.events import ChoiceEnd, Finished, Frame, Progress, Stored
from shared.queue import Queue
from shared.requests import Request
from shared.settings import Settings
from shared.storing import STORE, StoreTask, queue_of
from shared.transfer import Stalled
from workers import jobs
from workers.claim import LeasedWorker
from workers.control import drain
from workers.metrics import WorkerMetrics
from workers.models.depot import Depot, open_depot
from workers.models.remote.options import RemoteOptions
from workers.no_engine import NoEngine
from workers.publisher import Publisher
from workers.runs import Run
from workers.served import Served
from workers.store_tasks import NOT_REPEATED, perform
from workers.text_side import NoText

log = structlog.get_logger()

TASKS_AT_ONCE = 64  # claimed, not running: pulls wait for their turn with `max_pulls`
STEP_S = 0.1
RETRY_S = 1.0


class Keeper:
    """Serves the store's queues. Without a depot it serves none, and that is all."""

    def __init__(
        self, settings: Settings, redis: ArqRedis, queue: Queue, depot: Depot | None, worker: str
    ) -> None:
        self.depot = depot
        self._redis = redis
        names = [STORE, queue_of(depot.id)] if depot else []
        metrics = WorkerMetrics(worker)  # kept here: what they count are the models' jobs
        self._served = {
            name: Served(
                name,
                NoText(RequestError("a store has no model: it generates nothing")),
                queue=queue,
                settings=replace(settings, emit_interval_ms=1000 * STEP_S),
                context=0,
                slots=TASKS_AT_ONCE,
                bytes=0,
                metrics=metrics.of(name),
                generates=False,
                open_engine=NoEngine,
            )
            for name in names
        }
        self._worker = LeasedWorker(
            redis,
            queue,
            worker=worker,
            served=self._served,
            run=self._run,
            abandon=jobs.abandon,
            tick_s=settings.safety_tick_s,
        )

    @property
    def store(self) -> tuple[str, int]:
        """The store's ID and size, for the worker's card."""
        return (self.depot.id, self.depot.bytes) if self.depot else ("", 0)

    @property
    def running(self) -> tuple[str, ...]:
        """The jobs that are claimed here."""
        return tuple(self._worker.runs)

    async def run(self) -> None:
        """Serve until cancelled."""
        if self.depot is None:
            await asyncio.Event().wait()
            return
        await self._announce(self.depot)
        async with asyncio.TaskGroup() as group:
            for served in self._served.values():
                group.create_task(served.publisher.run())
            group.create_task(self._listen())
            group.create_task(self._worker.main())

    async def _announce(self, depot: Depot) -> None:
        """Show what is in the store, once Redis hears it."""
        while True:
            try:
                await depot.announce(yields=True)
                return
            except (RedisError, OSError) as error:
                log.warning("store.untold", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def drain(self, *, timeout_s: float) -> None:
        """Claim nothing more; what does not end in time goes back to the queue."""
        await drain(self._worker, timeout_s=timeout_s)

    async def _listen(self) -> None:
        async def opened() -> None:
            self._worker.wake()

        channels = [keys.CONTROL, *(keys.wake(name) for name in self._served)]
        await bus.listen(self._redis, channels, on_message=self._hear, on_open=opened)

    def _hear(self, channel: bytes, message: bytes) -> None:
        """A wake-up or a cancel; other orders are the models'."""
        if channel != keys.CONTROL.encode():
            self._worker.wake()
            return
        match codec.decode_control(message):
            case Cancel(job=job):
                for served in self._served.values():
                    if run := served.run_of(job):
                        served.stop(run.key)
            case _:
                return

    async def _run(self, ctx: dict[str, Any], payload: bytes) -> None:
        assert self.depot is not None
        await jobs.bounded(ctx, payload, partial(_dispatch, self.depot))


async def _dispatch(
    depot: Depot, served: Served, run: Run, request: Request, frames: list[Frame]
) -> None:
    """One task; told to stop it ends quietly, or goes back to the queue."""
    if not isinstance(request, StoreTask):
        raise RequestError("this queue takes tasks on a store")
    if run.claim.epoch > 1 and isinstance(request.task, NOT_REPEATED):
        raise Stalled("the worker that handled this has gone: send it again")
    pace = Pace(run, served.publisher)
    work = asyncio.create_task(perform(depot, request.task, job=run.job, tell=pace.tell))
    run.on_stop(partial(_cancel, work))
    try:
        stored = await work
    except asyncio.CancelledError:
        if not run.stopped:
            work.cancel()
            raise
        if not run.hand_back:
            run.end(Finished(choices=(ChoiceEnd(reason="cancelled"),)))
        return
    run.say(stored)
    run.end(Finished())


def _cancel(task: asyncio.Task[Stored]) -> None:
    task.cancel()


class Pace:
    """Progress as seldom as watching needs it: of each layer the first, the last, and between them
    the newest every STEP_S."""

    def __init__(self, run: Run, publisher: Publisher) -> None:
        self._run = run
        self._publisher = publisher
        self._newest: dict[str, Progress] = {}
        self._known: set[str] = set()
        self._said_s = float("-inf")
        run.first_text_s = run.claimed_s  # from now on its words can wait a little

    def tell(self, progress: Progress) -> None:
        """A new state of a layer."""
        first = progress.layer not in self._known
        self._known.add(progress.layer)
        self._newest[progress.layer] = progress
        now_s = time.monotonic()
        if first or progress.done == progress.size or now_s - self._said_s >= STEP_S:
            self._said_s = now_s
            self._run.say(*self._newest.values())
            self._newest.clear()
            self._publisher.kick()


@asynccontextmanager
async def open_keeper(
    settings: Settings,
    redis: ArqRedis,
    queue: Queue,
    worker: str,
    *,
    options: RemoteOptions | None = None,
) -> AsyncIterator[Keeper]:
    """The store of this host, announced. A folder that cannot be written is said in the log: such
    a worker serves the model it was given, and no store."""
    try:
        async with open_depot(settings, redis, options=options) as depot:
            yield Keeper(settings, redis, queue, depot, worker)
            return
    except PermissionError as error:
        log.warning("store.unavailable", folder=str(settings.store), error=str(error))
    yield Keeper(settings, redis, queue, None, worker)
