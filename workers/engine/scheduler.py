"""Which rows go into the next decode, and who gives way when cells run out. Pure: no clock, no C.

Admission first, then one row for each decoding sequence, then prefill within its budget. A prompt
whose beginning another sequence is about to compute waits for it, so common prefixes are computed
once. Cells are promised at admission for the whole prompt, not for the answer; when answers
outgrow them, the youngest batch job, then the youngest interactive one, leaves with its tokens.
All rows of a step have the same adapters: see adapters.py.
"""

from __future__ import annotations

from bisect import insort

from workers.engine.adapters import AdapterSet, Turns
from workers.engine.found import Found
from workers.engine.job import Job
from workers.engine.plan import Chunk, Plan
from workers.engine.schedule import Rows, Schedule
from workers.engine.sequence import Sequence, Status
from workers.engine.slots import Slots
from workers.engine.speculation import Speculation

WORTH_WAITING = 32  # tokens; a shorter prefix is computed again rather than waited for
GROWTH = 32  # cells kept free at admission for each running answer


class Scheduler:
    """Waiting and running sequences of all jobs."""

    def __init__(
        self, slots: Slots, *, most_running: int, batch_rows: int, speculation: Speculation
    ) -> None:
        self.speculation = speculation
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.cached_tokens = 0
        self.preempted = 0
        self.accepted_tokens = 0
        self._slots = slots
        self._most_running = most_running
        self._batch_rows = batch_rows
        self._jobs: dict[int, Job] = {}
        self._turns = Turns()
        self._turn: AdapterSet = ()

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute or to wait for."""
        return bool(self.waiting or self.running)

    def add(self, job: Job) -> None:
        """A new job; its sequences wait."""
        for sequence in job.sequences:
            self._jobs[sequence.order] = job
            if sequence.status is Status.WAITING:
                insort(self.waiting, sequence, key=lambda one: one.rank)

    def job(self, sequence: Sequence) -> Job:
        """Whose choice a sequence is."""
        return self._jobs[sequence.order]

    def count(self, status: Status) -> int:
        """How many of the running stand there."""
        return sum(one.status is status for one in self.running)

    @property
    def furthest(self) -> int:
        """How far the furthest of the prompts in work is computed."""
        return max(
            (one.computed for one in self.running if one.status is Status.PREFILL), default=0
        )

    def schedule(self, *, prefill_budget: int) -> Schedule:
        """The next step, with at most so many prompt tokens. Jobs that had to give way have left
        when it returns."""
        self.cached_tokens = self.preempted = self.accepted_tokens = 0
        self.sweep()
        self._admit()
        self._turn = self._turns.next(one.adapters for one in self.running)
        rows = Rows()
        self._add_decoding(rows)
        self._add_prefill(rows, prefill_budget)
        for sequence in rows.sequences:
            self.job(sequence).admit()
        plan = Plan(self._slots.take_edits(), rows.chunks, self._turn)
        return Schedule(plan, rows.sequences)

    def advance(self, schedule: Schedule) -> None:
        """The plan was computed."""
        for sequence, chunk in zip(schedule.sequences, schedule.plan.chunks, strict=True):
            count = len(chunk.tokens) - chunk.drafted
            self._slots.grow(sequence.slot, count)
            sequence.advance(count, chunk.drafts)

    def settle(self, sequence: Sequence, chunk: Chunk) -> None:
        """A sequence with drafts has spoken: those that came true stay, the others leave the
        memory."""
        accepted = sequence.computed - chunk.start - len(chunk.tokens) + chunk.drafted
        self._slots.grow(sequence.slot, accepted)
        self.accepted_tokens += accepted
        if wrong := chunk.drafted - accepted:
            self._slots.take_back(sequence.slot, wrong, lag=sequence.lag)

    def fork(self, leader: Sequence) -> list[Sequence]:
        """The leader's prompt is computed: its fresh siblings go on from there, in the slots that
        are left. The others wait for a slot and prefill what is not cached then."""
        forked = []
        for sequence in self.job(leader).sequences:
            fresh = sequence.status is Status.WAITING and not sequence.generated
            if not fresh or self._slots.live >= self._most_running:
                continue
            if (slot := self._slots.fork(leader.slot, lag=leader.lag)) is not None:
                self._run(sequence)
                sequence.fork_from(leader, slot)
                forked.append(sequence)
        return forked

    def relieve(self) -> None:
        """The device found no cells although the count said so: drop cached prefixes, all of them,
        or let somebody give way."""
        if not self._slots.drop_idle():
            self._yield_one()

    def sweep(self) -> None:
        """Free what finished sequences hold."""
        for sequence in [one for one in self.running if one.status is Status.DONE]:
            self._vacate(sequence)
        self.waiting = [one for one in self.waiting if one.status is not Status.DONE]
        self._jobs = {order: job for order, job in self._jobs.items() if job.end is None}

    def _admit(self) -> None:
        for sequence in list(self.waiting):
            if sequence.status is Status.DONE:
                continue
            found = self._find(sequence)
            if self._has_a_leader(sequence) or self._should_wait(sequence, found):
                continue
            if not self._place(sequence, found):
                return

    def _has_a_leader(self, sequence: Sequence) -> bool:
        """Whether another choice of its job computes the prompt for it."""
        leader = self.job(sequence).sequences[0]
        return (
            leader is not sequence
            and not leader.generated
            and not sequence.generated
            and leader.status in (Status.WAITING, Status.PREFILL)
        )

    def _should_wait(self, sequence: Sequence, found: Found) -> bool:
        """Whether somebody will soon have computed more of its tokens; never for a batch job."""
        if found.coming <= found.length or found.coming < WORTH_WAITING:
            return False
        holder = next((one for one in self.running if one.slot == found.holder), None)
        return holder is not None and (sequence.lane == "batch" or holder.lane != "batch")

    def _place(self, sequence: Sequence, found: Found) -> bool:
        """Give it a slot, at the cost of batch jobs if it is interactive. False: later."""
        while (slot := self._claim(sequence, found)) is None:
            youngest = max(self.running, key=lambda one: one.rank, default=None)
            if sequence.lane == "batch" or youngest is None or youngest.lane != "batch":
                return self._give_up(sequence)
            self._preempt(youngest)
            found = self._find(sequence)
        self.cached_tokens += found.length
        self._run(sequence)
        sequence.begin(slot, cached=found.length)
        return True

    def _find(self, sequence: Sequence) -> Found:
        limit, kind = sequence.shareable, sequence.adapters
        found = self._slots.find(sequence.tokens, limit=limit, kind=kind)
        return self._slots.cut(found, sequence.layout.snapped(found.length))

    def _claim(self, sequence: Sequence, found: Found) -> int | None:
        if self._slots.live >= self._most_running:
            return None
        spare = sum(one.remaining + GROWTH for one in self.running)
        lag, kind = sequence.layout.lag(found.length), sequence.adapters
        return self._slots.claim(sequence.tokens, found, spare=spare, lag=lag, kind=kind)

    def _give_up(self, sequence: Sequence) -> bool:
        """It cannot start now; if nobody runs, it never can."""
        if not self.running:
            self.job(sequence).leave("failed", error="the prompt needs more cells than there are")
        return not self.running

    def _run(self, sequence: Sequence) -> None:
        self.waiting.remove(sequence)
        self.running.append(sequence)

    @property
    def _computing(self) -> list[Sequence]:
        """Those whose turn this step is."""
        return [one for one in self.running if one.adapters == self._turn]

    def _add_decoding(self, rows: Rows) -> None:
        while decoding := [one for one in self._computing if one.status is Status.DECODE]:
            if self._slots.make_room(len(decoding)) >= len(decoding):
                break
            self._yield_one()
        drafts = self._drafts(decoding)
        for sequence in decoding:
            rows.add(sequence, 1, drafts.get(sequence, ()))

    def _drafts(self, decoding: list[Sequence]) -> dict[Sequence, tuple[int, ...]]:
        """Guesses, only for as many rows and cells as nobody else wants. None beside a prompt: its
        step is long enough."""
        if any(one.status is Status.PREFILL for one in self.running):
            return {}
        room = min(self._slots.free, self._batch_rows) - len(decoding)
        wanted = {one: self.job(one).most_tokens - one.generated - 1 for one in decoding}
        return self.speculation.propose(wanted, room=room)

    def _add_prefill(self, rows: Rows, budget: int) -> None:
        """The first in line has half the budget for sure, the shortest prompts the rest: a short
        question is not kept waiting by a long document, nor the document by many questions."""
        prefill = [one for one in self._computing if one.status is Status.PREFILL]
        if not prefill:
            return
        eldest = min(prefill, key=lambda one: one.rank)
        least = 0 if rows.total else 1  # a step without any row would wait for nothing
        budget = min(max(least, budget), self._batch_rows - rows.total)
        kept = min(eldest.remaining, budget // 2)
        prefill.sort(key=lambda one: (one.lane == "batch", one is eldest, one.remaining, one.rank))
        for sequence in prefill:
            kept = 0 if sequence is eldest else kept
            count = self._stretch(rows, sequence, budget - kept, eldest=sequence is eldest)
            if count > 0:
                rows.add(sequence, count)
                budget -= count
        if not rows.total:
            self._yield_one()

    def _stretch(self, rows: Rows, sequence: Sequence, budget: int, *, eldest: bool) -> int:
        """How many of its next rows to compute, none if there is no room. An image that must be
        computed whole goes over the budget when its turn has come."""
        most = self._batch_rows - rows.embedded if eldest else 0
        count = min(sequence.remaining, budget)
        count = sequence.layout.stretch(sequence.computed, count, most=most)
        room = self._slots.make_room(rows.total + count) - rows.total
        return sequence.layout.stretch(sequence.computed, min(count, room))

    def _yield_one(self) -> None:
        """Somebody gives cells back: the youngest job leaves with its tokens; of a job alone the
        youngest choice waits; a sequence alone is over."""
        youngest = max(self.running, key=lambda one: one.rank)
        job = self.job(youngest)
        if any(one.order != youngest.order for one in self.running):
            self._preempt(youngest)
        elif len(self.running) > 1:
            self._vacate(youngest)
            youngest.requeue()
            insort(self.waiting, youngest, key=lambda one: one.rank)
        else:
            job.run_out(youngest)
            self._vacate(youngest)

    def _preempt(self, sequence: Sequence) -> None:
        job = self.job(sequence)
        job.leave("preempted")
        self.preempted += 1
        for one in [one for one in self.running if one.order == sequence.order]:
            self._vacate(one)

    def _vacate(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.speculation.forget(sequence)
        self._slots.retire(sequence.slot, sequence.tokens)
