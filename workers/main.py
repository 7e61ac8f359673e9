"""The worker process, in the order it lives: open, load, announce, claim, drain, leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import structlog
from arq.connections import ArqRedis

from shared import bus, keys, presence
from shared.connection import open_redis
from shared.queue import Queue
from shared.settings import BadSetting, Settings
from workers.control import drain, hear
from workers.heartbeat import watch_steps
from workers.house import House
from workers.metrics import WorkerMetrics
from workers.store_jobs import Keeper, open_keeper

log = structlog.get_logger()


async def main(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises BadSetting for what cannot start."""
    if not settings.redis_url:
        raise BadSetting("CARAVAN_REDIS_URL is empty: say which Redis, or use `caravan serve`")
    if not settings.models and not settings.pool:
        raise BadSetting("CARAVAN_MODEL is empty: name a model, or set CARAVAN_POOL=true")
    redis = open_redis(settings.redis_url)
    queue = Queue(redis, lease_ms=settings.lease_ms, max_attempts=settings.max_attempts)
    metrics = WorkerMetrics(f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}")
    stopping = _on_signals()
    try:
        async with open_keeper(settings, redis, queue, metrics.worker) as keeper:
            await serve(settings, redis, queue, metrics, keeper, stopping)
    finally:
        await redis.aclose()


async def serve(
    settings: Settings,
    redis: ArqRedis,
    queue: Queue,
    metrics: WorkerMetrics,
    keeper: Keeper,
    stopping: asyncio.Event,
) -> None:
    """Load, claim and run jobs until `stopping`, then finish or hand back what runs."""
    house = House(settings, redis, queue, metrics, keeper)
    worker, placer, residents = house.worker, house.placer, house.residents
    own = [] if settings.pool else [keys.wake(ref) for ref in placer.fixed]
    listening = bus.listen(
        redis,
        [keys.CONTROL, *own],
        patterns=[keys.WAKES] if settings.pool else [],
        on_message=partial(hear, worker, placer=placer),
        on_open=house.opened,
    )
    async with _tasks(
        listening,
        watch_steps(residents.served.values, timeout_s=settings.step_timeout_s),
        house.heartbeat.run(),
        worker.main(),
        placer.run(),
        residents.failed(),
        house.arrivals.failed(),
        keeper.run(),
    ) as tasks:
        log.info("worker.started", worker=metrics.worker, models=sorted(placer.fixed))
        try:
            await _first(stopping.wait(), *tasks)
            timeout_s = settings.drain_timeout_s
            await asyncio.gather(
                drain(worker, timeout_s=timeout_s), keeper.drain(timeout_s=timeout_s)
            )
        finally:
            await residents.close()
    await presence.leave(redis, metrics.worker)


def _on_signals() -> asyncio.Event:
    """Set at SIGTERM or SIGINT; a second signal ends the process at once."""
    stopping = asyncio.Event()

    def heard() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, heard)
    return stopping


@contextlib.asynccontextmanager
async def _tasks(
    *coroutines: Coroutine[Any, Any, None],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run beside the block; cancelled when it ends."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(waited: Coroutine[Any, Any, Any], *tasks: asyncio.Task[None]) -> None:
    """Until `waited` is over; a task that ends before has failed, and its error goes on."""
    waiter = asyncio.ensure_future(waited)
    done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in done - {waiter}:
        task.result()
        raise RuntimeError("a part of the worker ended by itself")
