"""Sequence ids, the KV cells behind them, and the prefixes that finished sequences leave. Pure.

A slot is free (no cells), live (a sequence computes in it) or idle (a cached prefix, until its id
or its cells are needed; least recently used first). What has to happen to the memory is kept as
edits for the next plan. Where memory cannot be cut, an idle slot is reused whole or not at all.
A prefix that goes may be saved in host memory and come back from there (host_cache.py). A slot may
be the grave, of drafts that did not come true: see plan.Bury.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from workers.engine.cells import Cells
from workers.engine.found import Found
from workers.engine.host_cache import Entry, HostCache
from workers.engine.idle import Idle
from workers.engine.plan import Bury, Copy, Cut, Edit, Load, Runner, Save
from workers.engine.prefixes import Prefixes

WORTH_PROVING = 64  # tokens; a template's own system prompt is in front of every chat
MOST_BURIED = 1024  # cells; a step on the CPU looks at every one


class Slots:
    """Who owns which sequence id and which cells. Only slots of one kind share cells: `kind` stands
    for whatever else than the tokens decides what the memory holds."""

    def __init__(
        self,
        *,
        sequence_ids: int,
        cells: int,
        idle_cells: int,
        can_cut: bool,
        new_cells: int | None = None,
        host_bytes: int = 0,
        buries: bool = False,
    ) -> None:
        self._cells = Cells(cells=cells, slots=sequence_ids)
        self._prefixes = Prefixes()
        self.host = HostCache(most_bytes=host_bytes, can_cut=can_cut)
        self._free = list(range(sequence_ids - 1, -1, -1))
        self._live: set[int] = set()
        new = idle_cells if new_cells is None else min(new_cells, idle_cells)
        self._idle = Idle(self._cells, most=idle_cells, most_new=new)
        self._most_idle_cells = idle_cells
        self._can_cut = can_cut
        self._grave = self._free.pop(0) if buries else -1
        self._edits: list[Edit] = []

    @classmethod
    def of(cls, runner: Runner, *, idle_cells: int, host_bytes: int, buries: bool) -> Slots:
        """Those of a runner; `idle_cells` -1: as many as it says."""
        return cls(
            sequence_ids=runner.sequence_ids,
            cells=runner.cells,
            idle_cells=idle_cells if idle_cells >= 0 else runner.idle_cells,
            new_cells=None if idle_cells >= 0 else runner.new_cells,
            can_cut=runner.can_cut,
            host_bytes=host_bytes,
            buries=buries,
        )

    @property
    def used(self) -> int:
        """Cells in use, cached ones too."""
        return self._cells.used

    @property
    def free(self) -> int:
        """Cells that nobody uses, nor any cached prefix."""
        return self._cells.free

    @property
    def live(self) -> int:
        """Slots in which sequences compute."""
        return len(self._live)

    def find(self, tokens: Sequence[int], *, limit: int, kind: Hashable = ()) -> Found:
        """The best prefix of `tokens` that other slots of this kind have or will have, or that is
        saved, at most `limit` long."""
        wanted = tokens[:limit]
        best = self._in_cells(wanted, kind)
        room = self._cells.total - self._cells.live
        entry, length = self.host.find(wanted, kind, held=best.length, room=room)
        if entry is None:
            return best
        return Found(-1, length, best.holder, best.coming, entry)

    def _in_cells(self, tokens: Sequence[int], kind: Hashable) -> Found:
        best = Found()
        for depth, slots in self._prefixes.path(tokens, kind):
            for slot in slots:
                best = self._better(best, slot, depth)
        return best

    def _better(self, best: Found, slot: int, depth: int) -> Found:
        has = self._cells.length(slot)
        if not self._can_cut and (slot in self._live or has != depth):
            return best
        source, length, holder, coming = best.source, best.length, best.holder, best.coming
        if depth > coming:
            holder, coming = slot, depth
        have = min(depth, has)
        if have > length or (have == length > 0 and self._whole(slot, have)):
            source, length = slot, have
        return Found(source, length, holder, coming)

    def _whole(self, slot: int, length: int) -> bool:
        return slot in self._idle and self._cells.length(slot) == length

    def cut(self, found: Found, length: int) -> Found:
        """No more than `length` of it; nothing where memory cannot be cut."""
        if length == found.length:
            return found
        if not length or not self._can_cut:
            return Found(holder=found.holder, coming=found.coming)
        return Found(found.source, length, found.holder, found.coming, found.saved)

    def claim(
        self,
        tokens: Sequence[int],
        found: Found,
        *,
        spare: int,
        lag: int = 0,
        kind: Hashable = (),
    ) -> int | None:
        """A live slot that shares `found` and has cells to come for all `tokens`, leaving `spare`
        cells to other live slots. None: not now. `lag`: see plan.Copy."""
        if not self._fits(len(tokens), found, spare):
            return None
        if self._whole(found.source, found.length):
            slot = found.source
            self._idle.take(slot)
            self._prefixes.remove(slot)
            self._wake(slot)
        elif (fresh := self._fresh_id(keep=found.source)) is not None:
            slot = fresh
            self._wake(slot)
            if found.saved is not None:
                self._load(found.saved, slot, found.length)
            else:
                self._share(found.source, slot, found.length, lag)
                if found.length >= WORTH_PROVING:
                    self._idle.prove(found.source)
        else:
            return None
        self._prefixes.insert(slot, tokens, kind)
        return slot

    def _fits(self, count: int, found: Found, spare: int) -> bool:
        shared = found.source >= 0
        shared_live = self._cells.live_part(found.source, found.length) if shared else 0
        return self._cells.live + count - shared_live + spare <= self._cells.total

    def fork(self, source: int, *, lag: int = 0) -> int | None:
        """A live slot that shares all of a live slot; None: no id is free."""
        slot = self._fresh_id(keep=source)
        if slot is None:
            return None
        self._wake(slot)
        self._share(source, slot, self._cells.length(source), lag)
        self._prefixes.insert(slot, self._prefixes.tokens(source), self._prefixes.kind(source))
        return slot

    def grow(self, slot: int, count: int) -> None:
        """`count` tokens were computed in a slot; make_room came before."""
        self._cells.grow(slot, count)

    def take_back(self, slot: int, count: int, *, lag: int) -> None:
        """Of the last chunk `count` tokens more were computed than grew: they leave the memory."""
        keep = self._cells.length(slot)
        if self._grave < 0:
            self._edits.append(Cut(slot, keep, lag))
            return
        self._cells.grow(self._grave, count)
        self._edits.append(Bury(slot, keep, self._grave, lag))
        if self._cells.length(self._grave) > MOST_BURIED:
            self._clear_grave()

    def make_room(self, count: int) -> int:
        """Drop cached prefixes until `count` cells are free or none is left; how many are free."""
        if self._cells.free < count:
            self._clear_grave()
        while self._cells.free < count and self._idle:
            self._evict(next(iter(self._idle)))
        return self._cells.free

    def drop_idle(self) -> bool:
        """Drop every cached prefix; whether there were any."""
        dropped = self._clear_grave() or bool(self._idle)
        while self._idle:
            self._evict(next(iter(self._idle)))
        return dropped

    def retire(self, slot: int, tokens: Sequence[int]) -> None:
        """The sequence is over; what it computed of `tokens` stays as a cached prefix."""
        self._live.discard(slot)
        self._cells.rest(slot)
        kind = self._prefixes.kind(slot)
        self._prefixes.remove(slot)
        self._idle.add(slot)
        self._prefixes.insert(slot, tokens[: self._cells.length(slot)], kind)
        if not self._cells.length(slot):
            self._evict(slot)
        if not self._live:
            self._clear_grave()
        while (excess := self._idle.excess(self._kept)) is not None:
            self._evict(excess)

    def take_edits(self) -> tuple[Edit, ...]:
        """What must happen to the memory before the next rows are computed."""
        edits = tuple(self._edits)
        self._edits.clear()
        return edits

    @property
    def saves(self) -> bool:
        """Whether there is something to save, which cannot be found before."""
        return any(isinstance(edit, Save) for edit in self._edits)

    def check(self) -> None:
        """Every id is free, live or idle, and all counts are right. Raises AssertionError."""
        ids = [*self._free, *self._idle, *self._live, self._grave]
        assert len(ids) == len(set(ids)), "a slot is in two states"
        assert all(not self._cells.length(slot) for slot in self._free), "a free slot holds cells"
        assert all(self._cells.length(slot) for slot in self._idle), "an idle slot holds nothing"
        assert self._kept <= self._most_idle_cells, "too many cells are kept"
        self._cells.check()
        self._prefixes.check()
        self.host.check()

    @property
    def _kept(self) -> int:
        """Cells that only cached prefixes hold."""
        return self._cells.idle - (self._cells.length(self._grave) if self._grave >= 0 else 0)

    def _wake(self, slot: int) -> None:
        self._live.add(slot)
        self._cells.wake(slot)

    def _share(self, source: int, target: int, length: int, lag: int) -> None:
        if not length:
            return
        self._idle.touch(source)
        self._cells.share(source, target, length)
        self._edits.append(Copy(source, target, length, lag))

    def _load(self, saved: Entry, slot: int, length: int) -> None:
        """Fill a fresh slot from the host and keep `length`; all of it needs cells for a moment."""
        self.make_room(len(saved.tokens))
        self._cells.grow(slot, length)
        self.host.touch(saved)
        self._edits.append(Load(saved, slot))
        if length < len(saved.tokens):
            self._edits.append(Cut(slot, length))

    def _fresh_id(self, *, keep: int) -> int | None:
        """A free id; the oldest cached prefix but `keep` makes way if it must."""
        if not self._free:
            oldest = next((slot for slot in self._idle if slot != keep), None)
            if oldest is None:
                return None
            self._evict(oldest)
        return self._free.pop()

    def _clear_grave(self) -> bool:
        """Free the cells of drafts that did not come true; whether there were any."""
        if self._grave < 0 or not self._cells.length(self._grave):
            return False
        self._cells.clear(self._grave)
        self._edits.append(Cut(self._grave, 0))
        return True

    def _evict(self, slot: int) -> None:
        tokens, kind = self._prefixes.tokens(slot), self._prefixes.kind(slot)
        self._idle.drop(slot)
        self._prefixes.remove(slot)
        self._save(slot, tokens, kind)
        self._cells.clear(slot)
        self._free.append(slot)
        self._edits.append(Cut(slot, 0))

    def _save(self, slot: int, tokens: tuple[int, ...], kind: Hashable) -> None:
        held = 0 if self.host.off else self._in_cells(tokens, kind).length
        if (place := self.host.place(tokens, kind, held=held)) is not None:
            self._edits.append(Save(slot, place))
