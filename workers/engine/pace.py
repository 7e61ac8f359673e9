"""How many prompt tokens a step may take while others decode. Learns from the steps before it.

A prompt is computed in chunks so that nobody's next token waits long for it. How large a chunk may
be is a matter of time, not of tokens, and differs by model and machine by orders of magnitude; so
it is measured: a step with a chunk may take `stretch` times as long as one without. Where more
wait for their first token than for their next one, it may take LONGEST_MS: many questions that come
together are read together, not one after another.

A token far into a prompt is dearer than one at its head, for it looks at all before it (on a CPU
five times as dear at 4,000). So the price is learned by place, in spans of SPAN tokens.
"""

from __future__ import annotations

SPAN = 512
LEAST = 8  # prompt tokens in the first span: below that a chunk costs more than it gives
FIRST = 32  # before anything is known
LONGEST_MS = 250.0  # of a step that delays no token, or few, but arrivals and cancels
WEIGHT = 0.2  # of the newest step in the averages


class Pace:
    """`most`: prompt tokens of any step; `stretch` 0: always so many."""

    def __init__(self, *, most: int, stretch: float) -> None:
        self._most = most
        self._stretch = stretch
        self._decode_ms = 0.0
        self._row_ms: dict[int, float] = {}

    def budget(self, *, decoding: int, prefilling: int, place: int) -> int:
        """Prompt tokens of the next step, in which so many sequences wait for their next token and
        so many for their first; the furthest prompt is computed up to `place`."""
        if not self._stretch:
            return self._most
        if not decoding:
            return self._rows(LONGEST_MS, place, unknown=self._most)
        more_ms = (self._stretch - 1) * self._decode_ms
        if prefilling > decoding:
            more_ms = max(more_ms, LONGEST_MS)
        return self._rows(more_ms, place, unknown=FIRST)

    def _rows(self, allowed_ms: float, place: int, *, unknown: int) -> int:
        """How many rows take so long; `unknown` before the first lesson."""
        price_ms = self._price_ms(place)
        rows = int(allowed_ms / price_ms) if allowed_ms and price_ms else unknown
        least = LEAST if place < SPAN else 1
        return min(max(least, rows), self._most)

    def _price_ms(self, place: int) -> float:
        """Of a row there; where nothing is known, as in the nearest span before it, or else the
        first behind it."""
        span = place // SPAN
        before = max((known for known in self._row_ms if known <= span), default=None)
        nearest = before if before is not None else min(self._row_ms, default=None)
        return 0.0 if nearest is None else self._row_ms[nearest]

    def observe(self, *, decode_rows: int, prefill_rows: int, place: int, step_ms: float) -> None:
        """A step is over; `place`: where its furthest prompt stood before it."""
        if decode_rows and not prefill_rows:
            self._decode_ms = _average(self._decode_ms, step_ms)
        elif prefill_rows >= LEAST or (prefill_rows and place >= SPAN):
            own_ms = step_ms - (self._decode_ms if decode_rows else 0.0)
            span = place // SPAN
            before_ms = self._row_ms.get(span, 0.0)
            self._row_ms[span] = _average(before_ms, max(0.0, own_ms) / prefill_rows)


def _average(before: float, newest: float) -> float:
    return before + WEIGHT * (newest - before) if before else newest
