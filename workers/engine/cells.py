"""Which KV cells each slot refers to: a cell may have many slots and is free with the last.

Only numbers: the cells here are counted as llama.cpp counts its own, they are not the same ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Cells:
    """Counts references to `cells` cells by `slots` slots; a slot may be live or idle."""

    def __init__(self, *, cells: int, slots: int) -> None:
        self.total = cells
        self._refs = np.zeros(cells, np.int32)
        self._live_refs = np.zeros(cells, np.int32)
        self._free = list(range(cells - 1, -1, -1))
        self._held = [array("i") for _ in range(slots)]
        self._live: set[int] = set()

    @property
    def free(self) -> int:
        """Cells nobody refers to."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Cells somebody refers to."""
        return self.total - len(self._free)

    @property
    def live(self) -> int:
        """Cells that live slots refer to."""
        return int(np.count_nonzero(self._live_refs))

    @property
    def idle(self) -> int:
        """Cells that only idle slots refer to."""
        return self.used - self.live

    def length(self, slot: int) -> int:
        """How many cells, and so tokens, a slot has."""
        return len(self._held[slot])

    def live_part(self, slot: int, length: int) -> int:
        """How many of a slot's first `length` cells live slots refer to."""
        return int(np.count_nonzero(self._live_refs[_ids(self._held[slot][:length])]))

    def only(self, slots: Sequence[int]) -> int:
        """How many cells only these slots refer to."""
        counts = np.zeros_like(self._refs)
        for slot in slots:
            counts[_ids(self._held[slot])] += 1
        return int(np.count_nonzero((counts > 0) & (counts == self._refs)))

    def wake(self, slot: int) -> None:
        """The slot is live from now on."""
        self._live.add(slot)
        self._live_refs[_ids(self._held[slot])] += 1

    def rest(self, slot: int) -> None:
        """The slot is idle from now on."""
        self._live.discard(slot)
        self._live_refs[_ids(self._held[slot])] -= 1

    def grow(self, slot: int, count: int) -> None:
        """Give a slot `count` free cells; there must be as many."""
        assert count <= len(self._free), "no free cells"
        left = len(self._free) - count
        fresh = self._free[left:]
        del self._free[left:]
        self._held[slot].extend(fresh)
        self._refs[fresh] = 1
        if slot in self._live:
            self._live_refs[fresh] = 1

    def share(self, source: int, target: int, length: int) -> None:
        """Let an empty slot refer to another's first `length` cells."""
        shared = self._held[source][:length]
        self._held[target] = shared[:]
        self._refs[_ids(shared)] += 1
        if target in self._live:
            self._live_refs[_ids(shared)] += 1

    def clear(self, slot: int) -> None:
        """An idle slot refers to nothing any more; cells of its own are free."""
        ids = _ids(self._held[slot])
        self._refs[ids] -= 1
        self._free.extend(ids[self._refs[ids] == 0].tolist())
        self._held[slot] = array("i")

    def check(self) -> None:
        """Count everything again and compare. Raises AssertionError."""
        refs = np.zeros_like(self._refs)
        live_refs = np.zeros_like(self._live_refs)
        for slot, held in enumerate(self._held):
            assert len(set(held)) == len(held), f"slot {slot} holds a cell twice"
            refs[_ids(held)] += 1
            live_refs[_ids(held)] += slot in self._live
        assert np.array_equal(refs, self._refs), "references miscounted"
        assert np.array_equal(live_refs, self._live_refs), "live references miscounted"
        assert sorted(self._free) == np.flatnonzero(refs == 0).tolist(), "free cells miscounted"


def _ids(held: array[int]) -> NDArray[np.int32]:
    return np.frombuffer(held, np.int32) if held else np.empty(0, np.int32)
