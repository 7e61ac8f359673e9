"""A process that starts store keepers by forking: a line `start REDIS DATA` in, a pid out. So a
test may kill twenty of them and pay the imports once."""

from __future__ import annotations

import asyncio
import os
import sys

from shared import logs
from shared.connection import open_redis
from shared.presence import WorkerCard
from shared.queue import Queue
from shared.settings import Settings
from workers.heartbeat import Heartbeat
from workers.store_jobs import open_keeper

LEASE_MS = 300


async def keep(redis_url: str, data_dir: str) -> None:
    """A worker that has a store and no model, until it is killed."""
    settings = Settings(
        redis_url=redis_url, data_dir=data_dir, lease_ms=LEASE_MS, safety_tick_s=0.1
    )
    redis = open_redis(redis_url)
    queue = Queue(redis, lease_ms=LEASE_MS, max_attempts=1000)
    name = f"w{os.getpid()}"
    async with open_keeper(settings, redis, queue, name) as keeper:
        card = WorkerCard(id=name, host="here", pid=os.getpid(), device="cpu", started_ms=0)
        heartbeat = Heartbeat(
            redis,
            lambda _: card,
            served=list,
            metrics=lambda: b"",
            draining=lambda: False,
            store=lambda: keeper.store,
        )
        await asyncio.gather(keeper.run(), heartbeat.run())


def main() -> None:
    """Serve orders until stdin ends."""
    logs.configure(Settings(log_level="error"), process="worker")
    for line in sys.stdin:
        redis_url, data_dir = line.split()
        child = os.fork()
        if not child:
            try:
                asyncio.run(keep(redis_url, data_dir))
            finally:
                os._exit(1)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
