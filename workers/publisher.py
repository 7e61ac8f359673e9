"""The event loop's side of one engine: steps in, Redis writes out, one round trip a write.

First tokens and ends are written at once, the rest at most every `interval_s`; while a write is
under way new steps gather for the next. A write is repeated until Redis has it: the scripts drop
what they have seen, so a lost answer costs nothing. Leases of quiet runs are kept alive from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from redis.exceptions import RedisError

from shared.queue import Emit, Ending, Queue, Written
from workers.engine.doors import Output, StepReport
from workers.runs import Run

log = structlog.get_logger()

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 1.0


class Publisher:
    """Writes what runs say. `stop(key)` is called for a run that lost its lease or its client;
    `on_end(run, output)` turns an engine's End into the run's last event."""

    def __init__(
        self,
        queue: Queue,
        model: str,
        *,
        interval_s: float,
        lease_s: float,
        stop: Callable[[str], None],
        on_end: Callable[[Run, Output], None],
    ) -> None:
        self.runs: dict[str, Run] = {}
        self._queue = queue
        self._model = model
        self._interval_s = interval_s
        self._beat_s = lease_s / 3
        self._stop = stop
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._wrote_s = 0.0
        self._writing = asyncio.Lock()  # frames of one run must reach the journal in their order

    def add(self, run: Run) -> None:
        """From now on this run's lease is kept and its words are written."""
        self.runs[run.key] = run
        self._changed.set()

    def put(self, report: StepReport) -> None:
        """One step of the engine, on the event loop's thread."""
        for output in report.outputs:
            if run := self.runs.get(output.key):
                run.take(output)
                if output.end is not None:
                    self._on_end(run, output)
        self._changed.set()

    def kick(self) -> None:
        """Something was said outside a step: look at once."""
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            pause_s = self._pause_s(time.monotonic())
            if pause_s is not None and pause_s <= 0:
                await self.flush()
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def beat_all(self) -> None:
        """Push every run's lease forward now."""
        for run in self.runs.values():
            run.written_s = 0.0
        await self.flush()

    async def flush(self) -> None:
        """Write everything there is to say now, and beat for quiet runs whose lease grows old."""
        async with self._writing:
            await self._flush()

    async def _flush(self) -> None:
        runs = list(self.runs.values())
        emits: list[tuple[Run, Emit]] = []
        endings: list[tuple[Run, Ending]] = []
        for run in runs:
            match run.cut():
                case Ending() as ending:
                    endings.append((run, ending))
                case Emit() as emit:
                    emits.append((run, emit))
                case None if self._beat_due(run):
                    emits.append((run, run.beat()))
        if emits or endings:
            await self._write(emits, endings)
        for run in runs:
            if run.hand_back and run.key in self.runs:
                await self._release(run)

    def _pause_s(self, now_s: float) -> float | None:
        """How long nothing has to be written; None: until something changes."""
        runs = self.runs.values()
        if any(run.pressing for run in runs):
            return 0.0
        beats = [run.written_s + self._beat_s - now_s for run in runs]
        if any(run.dirty for run in runs):
            beats.append(self._wrote_s + self._interval_s - now_s)
        return min(beats, default=None)

    def _beat_due(self, run: Run) -> bool:
        return time.monotonic() - run.written_s >= self._beat_s

    async def _write(
        self, emits: Sequence[tuple[Run, Emit]], endings: Sequence[tuple[Run, Ending]]
    ) -> None:
        emitted, ended = await self._until_written(
            [emit for _, emit in emits], [ending for _, ending in endings]
        )
        self._wrote_s = time.monotonic()
        for (run, emit), written in zip(emits, emitted, strict=True):
            self._emitted(run, emit, written)
        for (run, _), written in zip(endings, ended, strict=True):
            self._ended(run, written)

    async def _until_written(
        self, emits: Sequence[Emit], endings: Sequence[Ending]
    ) -> tuple[list[Written], list[Written]]:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                answer = await self._queue.write(self._model, emits, endings)
                if Written.AGAIN not in (*answer[0], *answer[1]):
                    return answer
                log.error("redis.full", model=self._model, hint="raise Redis' maxmemory")
            except (RedisError, OSError) as error:
                log.warning("write.repeated", model=self._model, error=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MOST_S)

    def _emitted(self, run: Run, emit: Emit, written: Written) -> None:
        match written:
            case Written.CANCELLED:
                # Nothing was written: the end that follows takes the refused frame's number.
                run.number = emit.number
                self._stop(run.key)
            case Written.FENCED:
                self.drop(run)
            case _:
                run.written_s = self._wrote_s

    def _ended(self, run: Run, written: Written) -> None:
        if written is Written.FENCED:
            log.warning("job.fenced", job=run.job, epoch=run.claim.epoch)
        self._forget(run)

    def drop(self, run: Run) -> None:
        """Another claim has it, or will: stop computing and say nothing more."""
        log.warning("job.fenced", job=run.job, epoch=run.claim.epoch)
        self._stop(run.key)
        self._forget(run)

    async def _release(self, run: Run) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self._queue.release(self._model, job=run.job, epoch=run.claim.epoch)
                break
            except (RedisError, OSError) as error:
                log.warning("release.repeated", model=self._model, error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MOST_S)
        self._forget(run)

    def _forget(self, run: Run) -> None:
        self.runs.pop(run.key, None)
        run.leave()
