"""How many prompt tokens a step may take while others decode. Learns from the steps before it.

A prompt is computed in chunks so that nobody's next token waits long for it. How large a chunk may
be is a matter of time, not of tokens, and differs by model and machine by orders of magnitude; so
it is measured: a step with a chunk may take `stretch` times as long as one without.
"""

from __future__ import annotations

LEAST = 8  # prompt tokens: below that a chunk costs more than it gives
FIRST = 32  # before anything is known
LONGEST_MS = 250.0  # of a step that delays no token, but arrivals and cancels
WEIGHT = 0.2  # of the newest step in the averages


class Pace:
    """`most`: prompt tokens of any step; `stretch` 0: always so many."""

    def __init__(self, *, most: int, stretch: float) -> None:
        self._most = most
        self._stretch = stretch
        self._decode_ms = 0.0
        self._row_ms = 0.0

    def budget(self, *, decoding: int) -> int:
        """Prompt tokens of the next step, in which `decoding` sequences wait for a token."""
        if not self._stretch:
            return self._most
        if not decoding:
            return self._rows(LONGEST_MS, unknown=self._most)
        return self._rows((self._stretch - 1) * self._decode_ms, unknown=FIRST)

    def _rows(self, allowed_ms: float, *, unknown: int) -> int:
        """How many rows take so long; `unknown` before the first lesson."""
        rows = int(allowed_ms / self._row_ms) if allowed_ms and self._row_ms else unknown
        return min(max(LEAST, rows), self._most)

    def observe(self, *, decode_rows: int, prefill_rows: int, step_ms: float) -> None:
        """A step is over."""
        if decode_rows and not prefill_rows:
            self._decode_ms = _average(self._decode_ms, step_ms)
        elif prefill_rows >= LEAST:
            own_ms = step_ms - (self._decode_ms if decode_rows else 0.0)
            self._row_ms = _average(self._row_ms, max(0.0, own_ms) / prefill_rows)


def _average(before: float, newest: float) -> float:
    return before + WEIGHT * (newest - before) if before else newest
