"""Which cached prefixes stay in the cells, and which goes next. Pure.

Most answers are never come back to, and every cell in use makes a step on a CPU longer. So a
prefix is on trial first, with little room for all those on trial; one that was of use to a second
request has proven itself and has the rest. The one used last is always kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from workers.engine.cells import Cells


class Idle:
    """Slots that hold cached prefixes, the least recently used first. They may keep `most` cells,
    of these `most_new` on trial."""

    def __init__(self, cells: Cells, *, most: int, most_new: int) -> None:
        self._cells = cells
        self._most = most
        self._most_new = most_new
        self._slots: OrderedDict[int, None] = OrderedDict()
        self._proven: set[int] = set()

    def __contains__(self, slot: int) -> bool:
        return slot in self._slots

    def __iter__(self) -> Iterator[int]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, slot: int) -> None:
        """Its sequence is over."""
        self._slots[slot] = None

    def touch(self, slot: int) -> None:
        """It was of use, however little; a live one is nothing here."""
        if slot in self._slots:
            self._slots.move_to_end(slot)

    def prove(self, slot: int) -> None:
        """Another request begins with much of what it holds, live or idle."""
        self._proven.add(slot)

    def take(self, slot: int) -> None:
        """Another request goes on in it."""
        self.prove(slot)
        del self._slots[slot]

    def drop(self, slot: int) -> None:
        """It is emptied, and begins anew."""
        del self._slots[slot]
        self._proven.discard(slot)

    def excess(self, kept: int) -> int | None:
        """The slot that must go, if `kept` cells are held by cached prefixes alone; None: none."""
        if kept > self._most:
            return next(iter(self._slots), None)
        on_trial = [slot for slot in self._slots if slot not in self._proven]
        if len(self._slots) > 1 and self._cells.only(on_trial) > self._most_new:
            last = next(reversed(self._slots))
            return next((slot for slot in on_trial if slot != last), None)
        return None
