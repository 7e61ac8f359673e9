"""A worker without a model, for benches: claims real jobs and writes what it is told to, a step of
all of them at a time, as the real worker does: journal, lease and publication in one call."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from bench.pace import paced
from shared import codec
from shared.events import ChoiceEnd, Event, Finished, Frame, Started, TextDelta, Usage
from shared.queue import Claim, Emit, Ending, Queue
from tests.api.fleet import MODEL, FakeWorker

PIECE = TextDelta(text=" token")
END = Finished(choices=(ChoiceEnd(),), usage=Usage(prompt_tokens=8, completion_tokens=1))
POLL_S = 0.002


class ScriptedWorker:
    """All jobs of MODEL. `claim` takes so many, then `play` writes tokens of each."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queue = Queue(redis, lease_ms=60_000)
        self._jobs: list[Claim] = []
        self._number = 1

    async def announce(self) -> None:
        """Be in the catalog and among the workers."""
        await FakeWorker(self._redis).announce()

    async def claim(self, count: int) -> None:
        """Take `count` jobs, as they come, and begin their answers."""
        self._jobs, self._number = [], 1
        while len(self._jobs) < count:
            self._jobs += await self._take(count - len(self._jobs))
        for first in range(0, count, 256):
            await self._queue.write(MODEL, self._emits((Started(prompt_tokens=8),), first))
        self._number = 2

    async def play(self, *, steps: int, pace_s: float) -> None:
        """A token of every job, `steps` times, one every `pace_s`."""
        await paced(self.step, steps=steps, pace_s=pace_s)

    async def step(self) -> None:
        """One more token of every job."""
        await self._queue.write(MODEL, self._emits((PIECE,), 0))
        self._number += 1

    async def finish(self) -> None:
        """End every job."""
        await self._queue.write(MODEL, (), [self._ending(job, (END,)) for job in self._jobs])

    async def answer_all(self) -> None:
        """Answer every job with one token, until cancelled."""
        self._number = 1
        whole = (Started(prompt_tokens=8), PIECE, END)
        while True:
            jobs = await self._take(64)
            await self._queue.write(MODEL, (), [self._ending(job, whole) for job in jobs])

    async def _take(self, most: int) -> list[Claim]:
        """Jobs, at least one, as soon as there are any."""
        while True:
            found = await self._queue.claim(MODEL, worker="w1", most=most)
            if found.claims:
                return list(found.claims)
            await asyncio.sleep(POLL_S)

    def _emits(self, events: tuple[Event, ...], first: int) -> list[Emit]:
        last = first + 256 if len(self._jobs) > 256 else None
        return [self._emit(job, events) for job in self._jobs[first:last]]

    def _emit(self, job: Claim, events: tuple[Event, ...]) -> Emit:
        frame = codec.encode(Frame(job.job, self._number, events))
        return Emit(job.job, job.epoch, self._number, frame)

    def _ending(self, job: Claim, events: tuple[Event, ...]) -> Ending:
        return Ending(emit=self._emit(job, events), tenant="open")
