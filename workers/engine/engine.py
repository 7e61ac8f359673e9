"""The engine: one thread that decodes many sequences together. Two doors: commands in through a
queue, one callback out a step. No asyncio, no Redis.

An error in one job's own parts (its grammar, its text) ends that job. An error of the device ends
none: the engine is `dead` and says no more. Its process should exit; another worker will take the
jobs up where their journals end, once their leases are over.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from workers.engine import limits, media
from workers.engine.doors import (
    Deliver,
    End,
    Output,
    SequenceRequest,
    StepReport,
    StepStats,
)
from workers.engine.job import Job
from workers.engine.pace import Pace
from workers.engine.plan import Chunk, Plan, Runner
from workers.engine.schedule import Schedule
from workers.engine.scheduler import Scheduler
from workers.engine.sequence import Sequence, Status
from workers.engine.slots import Slots
from workers.engine.speculation import Speculation

log = structlog.get_logger()


class _Submit(msgspec.Struct, frozen=True):
    request: SequenceRequest


class _Cancel(msgspec.Struct, frozen=True):
    key: str


class _Close(msgspec.Struct, frozen=True):
    pass


class Engine:
    """doors.EngineDoor over a runner. `start` begins the thread; tests call `step` themselves.

    `prefill_budget` and `prefill_stretch`: see pace.py. `prefix_cache`: cells that idle cached
    prefixes may keep; -1 = what the runner says. `host_cache_bytes`: see host_cache.py.
    `speculation`: who guesses ahead, nobody unless given; never where memory cannot be cut.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        deliver: Deliver,
        prefill_budget: int = 256,
        prefill_stretch: float = 0.0,
        prefix_cache: int = -1,
        host_cache_bytes: int = 0,
        speculation: Speculation | None = None,
    ) -> None:
        self.slots = Slots.of(
            runner,
            idle_cells=prefix_cache,
            host_bytes=host_cache_bytes,
            buries=runner.exact and runner.can_cut and speculation is not None,
        )
        self._scheduler = Scheduler(
            self.slots,
            most_running=runner.slots,
            batch_rows=runner.batch_rows,
            speculation=speculation if speculation and runner.can_cut else Speculation(),
        )
        self._pace = Pace(most=prefill_budget, stretch=prefill_stretch, tile=runner.tile)
        self._runner = runner
        self._deliver = deliver
        self._commands: queue.SimpleQueue[_Submit | _Cancel | _Close] = queue.SimpleQueue()
        self._jobs: list[Job] = []
        self._arrivals = 0
        self._closing = False
        self._began_s = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.dead = False

    def start(self) -> None:
        """Begin to take commands."""
        self._thread.start()

    def submit(self, request: SequenceRequest) -> None:
        """Queue a job. An Output with its `end` comes, unless the engine dies of an error."""
        self._commands.put(_Submit(request))
        if self.dead:
            self._refuse_all()

    def cancel(self, key: str) -> None:
        """End a job within one step, in prefill too; unknown keys are nothing."""
        self._commands.put(_Cancel(key))

    def close(self) -> None:
        """Stop the thread; live jobs end as `preempted`. Returns when it has stopped."""
        self._commands.put(_Close())
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def stalled_s(self) -> float:
        """How long the step now running has taken; 0 between steps."""
        began_s = self._began_s
        return time.monotonic() - began_s if began_s else 0.0

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute. For the engine's own thread."""
        return self._scheduler.busy

    def step(self) -> None:
        """Take commands, plan, decode, sample, deliver. Does not wait for work."""
        self._began_s = time.monotonic()
        self._take_commands()
        schedule = self._scheduler.schedule(prefill_budget=self._budget())
        if self._runner.decode(schedule.plan):
            self._scheduler.advance(schedule)
            self._speak(schedule)
        else:
            self._scheduler.relieve()
        self._scheduler.sweep()
        self._report(schedule)
        if self.slots.saves:  # at once: the next prompt may begin with what was just evicted
            self._runner.decode(Plan(self.slots.take_edits()))
        self._began_s = 0.0

    def _budget(self) -> int:
        planner = self._scheduler
        decoding, prefilling = planner.count(Status.DECODE), planner.count(Status.PREFILL)
        return self._pace.budget(decoding=decoding, prefilling=prefilling, place=planner.furthest)

    def _run(self) -> None:
        try:
            while not self._closing:
                if not self.busy:
                    self._obey(self._commands.get())
                self.step()
            self._end_all()
        except Exception:  # the thread's boundary: nothing is said of any job
            log.exception("engine.died")
            self._forget_all()
        finally:
            self.dead = True
            self._began_s = 0.0
            self._refuse_all()

    def _take_commands(self) -> None:
        while not self._commands.empty():
            self._obey(self._commands.get())

    def _obey(self, command: _Submit | _Cancel | _Close) -> None:
        match command:
            case _Submit(request):
                self._admit(request)
            case _Cancel(key):
                for job in [one for one in self._jobs if one.key == key]:
                    job.leave("cancelled")
            case _Close():
                self._closing = True

    def _admit(self, request: SequenceRequest) -> None:
        self._arrivals += 1
        error = limits.fault(request, self._runner)
        layout = media.TEXT_ONLY if error else media.Layout.of(request.prompt, request.media)
        longest = self._runner.context_length
        job = Job(request, order=self._arrivals, context_length=longest, layout=layout)
        self._jobs.append(job)
        if error:
            job.leave("failed", error=error)
            return
        for sequence in job.sequences:
            self._guarded(job, partial(job.open_voice, self._runner, sequence))
        self._scheduler.add(job)

    def _speak(self, schedule: Schedule) -> None:
        """Let every row that gave logits say its token."""
        end = 0
        for sequence, chunk in zip(schedule.sequences, schedule.plan.chunks, strict=True):
            end += len(chunk.tokens)
            job = self._scheduler.job(sequence)
            say = self._say_drafted if chunk.drafted else self._say
            if chunk.outputs:
                self._guarded(job, partial(say, sequence, chunk, end))

    def _say(self, sequence: Sequence, chunk: Chunk, end: int) -> None:
        job = self._scheduler.job(sequence)
        for row in range(end - chunk.outputs, end):
            if sequence.status is Status.DONE:
                return  # what it heard was its end
            if sequence.heard < len(sequence.tokens):
                job.hear(sequence, row)
            elif sequence.generated or len(job.sequences) == 1:
                job.speak(sequence, row)
            else:
                self._say_forked(job, sequence, row)

    def _say_drafted(self, sequence: Sequence, chunk: Chunk, end: int) -> None:
        """Draw until what comes is not the draft: the rows behind that do not count."""
        job = self._scheduler.job(sequence)
        try:
            for row, draft in enumerate((*chunk.drafts, None), end - chunk.outputs):
                if sequence.status is Status.DONE:
                    return
                job.speak(sequence, row)
                if sequence.tokens[-1] != draft:
                    return
        finally:
            self._scheduler.settle(sequence, chunk)

    def _say_forked(self, job: Job, leader: Sequence, row: int) -> None:
        """The first token of every choice, from one row; each sees the logits as they came."""
        siblings = self._scheduler.fork(leader)
        logits = self._runner.logits(row)
        untouched = logits.copy()
        for sequence in (leader, *siblings):
            logits[:] = untouched
            job.speak(sequence, row)

    def _guarded(self, job: Job, act: Callable[[], None]) -> None:
        """The job boundary: what fails here is the job's own."""
        try:
            act()
        except Exception as error:  # one job's grammar or text, not the engine
            log.exception("sequence.crashed", key=job.key)
            job.leave("failed", error=f"{type(error).__name__}: {error}")

    def _report(self, schedule: Schedule) -> None:
        outputs = tuple(output for job in self._jobs if (output := job.take_output()))
        self._jobs = [job for job in self._jobs if job.end is None]
        stats = self._stats(schedule)
        self._learn(stats, place=schedule.place)
        if outputs or schedule.sequences:
            self._deliver(StepReport(outputs=outputs, stats=stats))

    def _learn(self, stats: StepStats, *, place: int) -> None:
        """What the step took, for those who plan the next ones."""
        rows, prefill, step_ms = stats.decode_rows, stats.prefill_rows, stats.step_ms
        if not prefill:
            self._scheduler.speculation.observe(rows, stats.draft_tokens, step_ms=step_ms)
        if not stats.draft_tokens:
            self._pace.observe(decode_rows=rows, prefill_rows=prefill, place=place, step_ms=step_ms)

    def _stats(self, schedule: Schedule) -> StepStats:
        return StepStats(
            step_ms=1000 * (time.monotonic() - self._began_s),
            decode_rows=schedule.decode_rows,
            prefill_rows=schedule.prefill_rows,
            draft_tokens=schedule.draft_rows,
            accepted_tokens=self._scheduler.accepted_tokens,
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            cells_used=self.slots.used,
            saved_bytes=self.slots.host.used_bytes,
            cached_tokens=self._scheduler.cached_tokens,
            preempted=self._scheduler.preempted,
        )

    def _end_all(self) -> None:
        """Closing: what still runs goes back."""
        for job in self._jobs:
            job.leave("preempted")
        outputs = tuple(output for job in self._jobs if (output := job.take_output()))
        self._jobs = []
        if outputs:
            self._deliver(StepReport(outputs=outputs, stats=StepStats()))

    def _forget_all(self) -> None:
        """Dying: free what jobs hold, deliver nothing, so that they are not ended here."""
        for job in self._jobs:
            job.leave("failed")
        self._jobs = []
        self._closing = False

    def _refuse_all(self) -> None:
        """Nobody is left to obey: jobs that still arrive go back at once, or, if the engine died,
        stay without a word as those that ran."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            if isinstance(command, _Submit) and self._closing:
                end = End(kind="preempted")
                output = Output(key=command.request.key, end=end)
                self._deliver(StepReport(outputs=(output,), stats=StepStats()))
