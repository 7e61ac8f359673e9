"""Keeps this worker's card in Redis fresh, and ends the process when an engine hangs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable

import structlog
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import presence
from shared.presence import LoadedModel, WorkerCard
from workers.held import line
from workers.served import Served

log = structlog.get_logger()

BEAT_S = 1.0
QUICK_S = 0.2
HUNG = 70  # exit status of a worker whose engine hangs or died


class Heartbeat:
    """Writes the card every second, sooner when the number of busy slots changed to or from 0.

    `card` makes it of the models that are here; `served` are those, refusals among them.
    """

    def __init__(
        self,
        redis: Redis,
        card: Callable[[Iterable[LoadedModel]], WorkerCard],
        *,
        served: Callable[[], Iterable[Served]],
        metrics: Callable[[], bytes],
        draining: Callable[[], bool],
        store: Callable[[], tuple[str, int]] = lambda: ("", 0),
    ) -> None:
        self._redis = redis
        self._card = card
        self._served = served
        self._metrics = metrics
        self._draining = draining
        self._store = store
        self._rates: dict[str, tuple[float, int]] = {}

    async def run(self) -> None:
        """Beat until cancelled. An outage of Redis is waited out."""
        while True:
            try:
                await self.beat()
            except (RedisError, OSError) as error:
                log.warning("heartbeat.failed", error=str(error))
            busy = self._busy()
            for _ in range(round(BEAT_S / QUICK_S)):
                await asyncio.sleep(QUICK_S)
                if self._busy() != busy:
                    break

    async def beat(self) -> None:
        """Write the card now."""
        models = [
            line(one, tokens_per_s=self._rate(one)) for one in self._served() if not one.refusal
        ]
        store, store_bytes = self._store()
        card = replace(
            self._card(models),
            draining=self._draining(),
            store=store,
            store_bytes=store_bytes,
        )
        await presence.show(self._redis, card, metrics=self._metrics())

    def _busy(self) -> bool:
        return any(one.metrics.stats.running for one in self._served())

    def _rate(self, served: Served) -> float:
        """Tokens a second since the last card."""
        now_s, tokens = time.monotonic(), served.metrics.tokens
        then_s, before = self._rates.get(served.ref, (now_s, tokens))
        self._rates[served.ref] = (now_s, tokens)
        return (tokens - before) / (now_s - then_s) if now_s > then_s else 0.0


async def watch_steps(served: Callable[[], Iterable[Served]], *, timeout_s: float) -> None:
    """A step that does not return cannot be cancelled, only left, and an engine that died will not
    come back: end the process, at once. Its supervisor starts another, its leases expire, and its
    jobs go on elsewhere."""
    while True:
        await asyncio.sleep(min(1.0, timeout_s / 4))
        for one in served():
            stalled_s = one.engine.stalled_s
            if one.engine.dead or stalled_s > timeout_s:
                log.critical("engine.hung", model=one.ref, stalled_s=stalled_s)
                os._exit(HUNG)
