"""What waits for which model, and who else is there: read from Redis in a few round trips.

Also the notes that workers leave each other: who loads a model now, and which loads went wrong.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec
from redis.asyncio import Redis

from shared import keys, presence
from shared.presence import ModelCard, WorkerCard
from shared.queue import LANES
from workers.placement import Backlog

CARDS_FRESH_S = 0.5


class Failures(msgspec.Struct, frozen=True):
    """Loads of a model that went wrong in a row, the last one so long ago. Without `error` it took
    its worker down, or is under way."""

    attempts: int = 0
    ago_s: float = 0.0
    error: str = ""


class Waiting(msgspec.Struct, frozen=True):
    """One model's queue: its backlog, who is loading it (a worker's id, or empty), failures."""

    backlog: Backlog = Backlog()
    loader: str = ""
    failures: Failures = Failures()


class Survey:
    """Raises redis.RedisError where it has to ask."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._cards: tuple[WorkerCard, ...] = ()
        self._asked_s = float("-inf")

    async def models(self) -> set[str]:
        """The refs of the catalog."""
        return {ref.decode() for ref in await self.redis.hkeys(keys.CATALOG)}  # type: ignore[misc]

    async def model(self, ref: str) -> ModelCard | None:
        """One model of the catalog."""
        return await presence.model(self.redis, ref)

    async def workers(self) -> tuple[WorkerCard, ...]:
        """The cards of all live workers, at most CARDS_FRESH_S old."""
        if time.monotonic() - self._asked_s > CARDS_FRESH_S:
            self._asked_s = time.monotonic()
            self._cards = tuple(card for card, _ in await presence.workers(self.redis))
        return self._cards

    async def queues(self, refs: Collection[str]) -> dict[str, Waiting]:
        """The queues of these models that have anything in them."""
        seconds, micros = await self.redis.time()
        now_ms = seconds * 1000 + micros / 1000
        found = await self._depths(sorted(refs), now_ms)
        heads = await self._heads(found)
        notes = await self._notes(found, now_ms)
        queues = {}
        for ref, waiting in found.items():
            since_ms = min((at for job in waiting[1] if (at := heads.get(job))), default=now_ms)
            backlog = Backlog(waiting=waiting[0], oldest_s=max(0.0, now_ms - since_ms) / 1000)
            queues[ref] = Waiting(backlog, *notes[ref])
        return queues

    async def claim_load(self, ref: str, worker: str, *, extra: bool) -> bool:
        """Be the one who loads it; from now on it counts as a load that failed, until `loaded`.

        Not if somebody has it by now (unless it is to be an `extra` one): whoever loads shows it on
        the card before letting go of the lock, so a card read behind the lock tells."""
        lock = keys.adopt(ref)
        if not await self.redis.set(lock, worker, nx=True, ex=keys.ADOPT_TTL_S):
            return False
        if not extra and await self._has_a_home(ref, worker):
            await self.redis.delete(lock)
            return False
        pipe = self.redis.pipeline(transaction=False)
        pipe.hincrby(keys.loads(ref), "attempts", 1)
        pipe.hset(keys.loads(ref), mapping={"last_ms": time.time_ns() // 1_000_000, "error": ""})
        pipe.expire(keys.loads(ref), keys.LOADS_TTL_S)
        await pipe.execute()
        return True

    async def _has_a_home(self, ref: str, worker: str) -> bool:
        self._asked_s = float("-inf")
        others = [card for card in await self.workers() if card.id != worker and not card.draining]
        held = [one for card in others for one in card.models if one.state != "unloading"]
        return any(one.model == ref for one in held)

    async def still_loading(self, refs: Collection[str]) -> None:
        """Keep being the one."""
        pipe = self.redis.pipeline(transaction=False)
        for ref in refs:
            pipe.expire(keys.adopt(ref), keys.ADOPT_TTL_S)
        await pipe.execute()

    async def loaded(self, ref: str) -> None:
        """It is there; earlier failures are forgotten."""
        await self.redis.delete(keys.loads(ref), keys.adopt(ref))

    async def load_failed(self, ref: str, error: str) -> None:
        """It is not there, for a reason that others should know."""
        pipe = self.redis.pipeline(transaction=False)
        now_ms = time.time_ns() // 1_000_000
        pipe.hset(keys.loads(ref), mapping={"last_ms": now_ms, "error": error})
        pipe.expire(keys.loads(ref), keys.LOADS_TTL_S)
        pipe.delete(keys.adopt(ref))
        await pipe.execute()

    async def _depths(self, refs: list[str], now_ms: float) -> dict[str, tuple[int, list[bytes]]]:
        """Waiting jobs, and the first of each lane; jobs whose worker died wait too."""
        pipe = self.redis.pipeline(transaction=False)
        for ref in refs:
            for lane in LANES:
                pipe.zcard(keys.lane(ref, lane))
                pipe.zrange(keys.lane(ref, lane), 0, 0)
            pipe.zcount(keys.leases(ref), "-inf", f"{now_ms:.0f}")
        rows = await pipe.execute() if refs else []
        found = {}
        for at, ref in enumerate(refs):
            in_one, head, in_other, other_head, lost = rows[5 * at : 5 * at + 5]
            if waiting := in_one + in_other + lost:
                found[ref] = (waiting, [*head, *other_head])
        return found

    async def _heads(self, found: dict[str, tuple[int, list[bytes]]]) -> dict[bytes, float]:
        """When the first jobs were queued, in Redis' milliseconds."""
        jobs = [job for _, heads in found.values() for job in heads]
        pipe = self.redis.pipeline(transaction=False)
        for job in jobs:
            pipe.hget(keys.job(job.decode()), "queued_ms")
        rows = await pipe.execute() if jobs else []
        return {job: float(row) for job, row in zip(jobs, rows, strict=True) if row}

    async def _notes(self, refs: Collection[str], now_ms: float) -> dict[str, tuple[str, Failures]]:
        pipe = self.redis.pipeline(transaction=False)
        for ref in refs:
            pipe.get(keys.adopt(ref))
            pipe.hmget(keys.loads(ref), ["attempts", "last_ms", "error"])
        rows = await pipe.execute() if refs else []
        notes = {}
        for at, ref in enumerate(refs):
            loader, (attempts, last_ms, error) = rows[2 * at : 2 * at + 2]
            failures = Failures()
            if attempts:
                ago_s = max(0.0, now_ms - float(last_ms or 0)) / 1000
                failures = Failures(int(attempts), ago_s, (error or b"").decode())
            notes[ref] = (loader.decode() if loader else "", failures)
        return notes
