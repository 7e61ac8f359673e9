"""arq's worker with its claim step replaced: woken by pub/sub, leases and epochs by script.

arq still runs the jobs (their tasks, their context, their boundary). What it would write to Redis
about a job's end is left to the fenced scripts: an unfenced delete by a worker that lost its lease
would destroy another's job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker as ArqWorker
from arq.worker import func
from redis.exceptions import RedisError

from shared import codec
from shared.queue import FUNCTION, Claim, Queue
from workers.runs import Run
from workers.served import Served

log = structlog.get_logger()

OUTAGE_PAUSE_S = 0.2
SOONEST_LOOK_S = 0.05
HESITATION_S = 0.02


class LeasedWorker(ArqWorker):
    """Claims for the models in `served` whenever `wake()` is called, a lease may have expired,
    or `tick_s` has passed. `ended(served)` is called after each run, and a claim that gave none."""

    def __init__(
        self,
        redis: ArqRedis,
        queue: Queue,
        *,
        worker: str,
        served: dict[str, Served],
        run: Callable[..., Awaitable[None]],
        abandon: Callable[[LeasedWorker, Run], Awaitable[None]],
        tick_s: float,
        ended: Callable[[Served], None] = lambda served: None,
    ) -> None:
        super().__init__(
            functions=[func(run, name=FUNCTION)],  # type: ignore[arg-type]
            redis_pool=redis,
            queue_name="caravan",
            handle_signals=False,
            job_timeout=None,  # type: ignore[arg-type]  # leases and the step watchdog do this
            keep_result=0,
            max_tries=1_000_000,  # attempts are counted by the claim script
            retry_jobs=False,
            log_results=False,
            job_serializer=codec.serialize_for_arq,
            job_deserializer=codec.deserialize_for_arq,
        )
        self.queue = queue
        self.worker = worker
        self.served = served
        self.tick_s = tick_s
        self._abandon = abandon
        self._on_ended = ended
        self.runs: dict[str, Run] = {}
        self.claiming = True
        self._wake = asyncio.Event()
        self._due: set[str] | None = None  # None: all
        self._hesitated: set[str] = set()

    def wake(self, model: str | None = None) -> None:
        """There may be work, for this model or for any."""
        if model is None:
            self._due = None
        elif self._due is not None:
            self._due.add(model)
        self._wake.set()

    async def main(self) -> None:
        """Claim, run, wait, for ever. Replaces arq's polling loop."""
        self.ctx["worker"] = self
        while True:
            self._wake.clear()
            due, self._due = self._due, set()
            pause_s = await self._claim_all(due)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                self._due = None

    async def _claim_all(self, due: set[str] | None) -> float:
        """One look at these models' queues; how long until the next one at the latest."""
        pause_s = self.tick_s
        try:
            for served in list(self.served.values()):
                if self.claiming and (due is None or served.ref in due):
                    pause_s = min(pause_s, await self._claim(served))
        except (RedisError, OSError) as error:
            log.warning("claim.failed", error=str(error))
            await asyncio.sleep(OUTAGE_PAUSE_S)
            await self._keep_leases()
            self._due = None
            return 0.0
        return pause_s

    async def _claim(self, served: Served) -> float:
        if self._hesitates(served):
            return HESITATION_S
        served.claims += 1
        try:
            claimed = await self.queue.claim(served.ref, worker=self.worker, most=served.free)
        finally:
            served.claims -= 1
        for claim in claimed.claims:
            served.metrics.claimed(claim)
            self._start(served, claim)
        if not claimed.claims:
            self._on_ended(served)
        if claimed.next_expiry_s is None:
            return self.tick_s
        return max(SOONEST_LOOK_S, claimed.next_expiry_s)

    def _hesitates(self, served: Served) -> bool:
        """An idle second copy lets the first one take what it can, so that it can go one day."""
        if served.ref in self._hesitated or not (served.tenure.extra and served.settled):
            self._hesitated.discard(served.ref)
            return False
        self._hesitated.add(served.ref)
        return True

    async def _keep_leases(self) -> None:
        """After an outage our leases look expired: keep them before anyone, we too, reaps them."""
        for served in self.served.values():
            await served.publisher.beat_all()

    def _start(self, served: Served, claim: Claim) -> None:
        earlier = self.runs.get(claim.job)
        run = self.runs[claim.job] = served.begin(claim)
        task = asyncio.create_task(self._run(served, run, earlier), name=f"job {claim.job}")
        self.tasks[run.key] = task
        task.add_done_callback(lambda _: self._ended(served, run))

    async def _run(self, served: Served, run: Run, earlier: Run | None) -> None:
        """Hand the job to arq, after an earlier run of it here (we slept past our own lease)."""
        if earlier is not None:
            served.publisher.drop(earlier)
            await earlier.over
        await self.run_job(run.job, 0)

    def _ended(self, served: Served, run: Run) -> None:
        task = self.tasks.pop(run.key)
        if self.runs.get(run.job) is run:
            del self.runs[run.job]
        if not task.cancelled() and (error := task.exception()):
            log.error("job.boundary_broken", job=run.job, error=repr(error))
        served.ended()
        self._on_ended(served)
        self.wake(served.ref)

    async def finish_job(self, job_id: str, *_: Any, **__: Any) -> None:
        """Nothing: the finish and release scripts did it, fenced."""

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """arq could not even start it: a payload that is gone or not ours."""
        await self._abandon(self, self.runs[job_id])
