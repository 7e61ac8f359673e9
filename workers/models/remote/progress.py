"""How far a pull or push is, as values: often enough to watch, seldom enough not to matter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec

STEP_S = 0.1
STEP_BYTES = 1 << 20


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One layer's state: `done` of `size` bytes; `total` is all layers' bytes, 0 when unknown."""

    layer: str
    done: int
    size: int
    total: int


Report = Callable[[Progress], None]


class Meter:
    """Turns byte counts into Progress: the first and the last of a layer always, between them one
    when 100 ms passed or 1 MiB came.
    """

    def __init__(
        self, report: Report, *, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._total = total
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}

    def show(self, layer: str, done: int, size: int) -> None:
        """`layer` now has `done` of its `size` bytes."""
        now = self._clock()
        said = self._said.get(layer)
        if said and said[1] == done:
            return
        if said and done != size and now - said[0] < STEP_S and abs(done - said[1]) < STEP_BYTES:
            return
        self._said[layer] = (now, done)
        self._report(Progress(layer=layer, done=done, size=size, total=max(self._total, size)))


def total_bytes(sizes: Iterable[int | None]) -> int:
    """Sum of the known sizes."""
    return sum(size or 0 for size in sizes)
