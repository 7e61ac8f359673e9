"""A worker without a model: claims real jobs through the real queue and says what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis

from shared import codec, keys, presence
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    Frame,
    Started,
    TextDelta,
    Timings,
    Usage,
)
from shared.presence import LoadedModel, ModelCard, WorkerCard
from shared.queue import Claim, Emit, Ending, Queue, Written
from shared.requests import Request

MODEL = "ai/smollm2:latest"
CARD = ModelCard(
    ref=MODEL,
    created=1742816981,
    digest="sha256:" + "ab" * 32,
    architecture="llama",
    parameters=134_515_008,
    quantization="Q4_1",
    size=98_000_000,
    context=8192,
    aliases=("ai/tiny:latest",),
)


def said(text: str, *, prompt_tokens: int = 5) -> tuple[Event, ...]:
    """The events of a plain answer, a word a delta."""
    words = [f"{word} " for word in text.split()]
    return (
        Started(prompt_tokens=prompt_tokens, worker="w1", fingerprint="fp_test"),
        *(TextDelta(text=word) for word in words),
        Finished(
            choices=(ChoiceEnd(),),
            usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=len(words), cached_tokens=2),
            timings=Timings(queue_ms=1.5, prefill_ms=10.0, decode_ms=20.0),
        ),
    )


class Held:
    """A claimed job, to be answered by hand."""

    def __init__(self, queue: Queue, claim: Claim, *, model: str) -> None:
        self.claim = claim
        self.model = model
        self.request: Request = codec.decode_request(
            codec.deserialize_for_arq(claim.payload)["a"][0]
        )
        self._queue = queue
        self.number = 1

    async def say(self, *events: Event, publish: bool = True) -> Written:
        """One frame of events; without `publish` it goes into the journal alone, as if pub/sub had
        lost it."""
        frame = Frame(self.claim.job, self.number, events)
        self.number = frame.next_number
        emit = Emit(self.claim.job, self.claim.epoch, frame.number, codec.encode(frame))
        if not publish:
            await self._queue.redis.xadd(
                keys.journal(self.claim.job), {"f": emit.frame}, id=f"{emit.number}-0"
            )
            await self._queue.redis.expire(keys.journal(self.claim.job), keys.JOB_TTL_S)
            return Written.OK
        if isinstance(events[-1], Finished | Failed):
            ending = Ending(
                emit=emit, tenant=self.request.tenant, failed=isinstance(events[-1], Failed)
            )
            return (await self._queue.write(self.model, (), [ending]))[1][0]
        written = (await self._queue.write(self.model, [emit]))[0][0]
        if written is Written.CANCELLED:
            self.number = frame.number  # nothing was written
        return written


class FakeWorker:
    """Claims for MODEL. `next` answers one job by hand, `serving` all of them by a script."""

    def __init__(self, redis: Redis, *, model: str = MODEL) -> None:
        self.redis = redis
        self.queue = Queue(redis)
        self.model = model
        self.taken: list[Request] = []

    async def announce(self, *, jobs_per_s: float = 2.0, metrics: bytes = b"") -> None:
        """Put the model into the catalog and the worker's card beside."""
        await presence.add_model(self.redis, CARD)
        loaded = LoadedModel(model=self.model, context=8192, slots=4, jobs_per_s=jobs_per_s)
        await self.show(loaded, metrics=metrics)

    async def show(self, *models: LoadedModel, metrics: bytes = b"") -> None:
        """The worker's card, with these models."""
        card = WorkerCard(id="w1", host="here", pid=1, device="cpu", started_ms=0, models=models)
        await presence.show(self.redis, card, metrics=metrics)

    async def next(self) -> Held:
        """The next job, as soon as there is one."""
        while True:
            claimed = await self.queue.claim(self.model, worker="w1", most=1)
            if claimed.claims:
                held = Held(self.queue, claimed.claims[0], model=self.model)
                self.taken.append(held.request)
                return held
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def serving(
        self, script: Callable[[Request], Sequence[Event]]
    ) -> AsyncIterator[FakeWorker]:
        """Answer every job with the script's events, a frame each."""
        task = asyncio.create_task(self._serve(script))
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _serve(self, script: Callable[[Request], Sequence[Event]]) -> None:
        while True:
            held = await self.next()
            for event in script(held.request):
                if await held.say(event) is not Written.OK:
                    break
