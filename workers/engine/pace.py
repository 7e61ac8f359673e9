"""How many prompt tokens a step may take while others decode. Learns from the steps before it.

A prompt is computed in chunks so that nobody's next token waits long for it. How large a chunk may
be is a matter of time, not of tokens, and differs by model and machine by orders of magnitude; so
it is measured: a step with a chunk may take `stretch` times as long as one without. Where more
wait for their first token than for their next one, it may take LONGEST_MS: many questions that come
together are read together, not one after another.

Many rows together can be much cheaper each than a few: on a CPU attention goes by tiles of `tile`
rows, row by row for fewer, and tiles are three times as fast 2,000 tokens into a prompt. So the
two have prices apart, and where nobody waits for a next token no chunk is smaller than a tile.

A token far into a prompt is dearer than one at its head, for it looks at all before it. So the
price is learned by place, in spans of SPAN tokens. And the step without a chunk grows too, with
every token of those that decode: beside a long prompt one step in RENEWED goes without, to see what
it takes now. Else what the others' texts add would pass for the price of the prompt, whose chunks
would shrink to nothing.
"""

from __future__ import annotations

SPAN = 512
FIRST = 32  # before anything is known
RENEWED = 8  # steps with a chunk, after which one without is due
SURE = 8  # rows whose price counts as whole: of fewer it is mostly noise
LONGEST_MS = 250.0  # of a step that delays no token, or few, but arrivals and cancels
WEIGHT = 0.2  # of the newest step in the averages


class Pace:
    """`most`: prompt tokens of any step; `stretch` 0: always so many. `tile`: rows from which on
    they are computed together; 1 = there is no such number."""

    def __init__(self, *, most: int, stretch: float, tile: int = 1) -> None:
        self._most = most
        self._stretch = stretch
        self._tile = min(tile, most)
        self._decode_ms = 0.0
        self._row_ms: dict[tuple[bool, int], float] = {}
        self._since = 0

    def budget(self, *, decoding: int, prefilling: int, place: int) -> int:
        """Prompt tokens of the next step, in which so many sequences wait for their next token and
        so many for their first; the furthest prompt is computed up to `place`. 0: it is time for a
        step without."""
        if not self._stretch:
            return self._most
        if not decoding:
            return max(self._tile, self._rows(LONGEST_MS, place, unknown=self._most))
        more_ms = (self._stretch - 1) * self._decode_ms
        if prefilling > decoding:
            more_ms = max(more_ms, LONGEST_MS)
        elif self._since >= RENEWED:
            self._since = 0
            return 0
        return self._rows(more_ms, place, unknown=FIRST)

    def _rows(self, allowed_ms: float, place: int, *, unknown: int) -> int:
        """How many rows take so long; `unknown` before the first lesson."""
        tiled = self._affordable(allowed_ms, place, tiled=True, unknown=unknown)
        if tiled >= self._tile:
            return min(tiled, self._most)
        few = self._affordable(allowed_ms, place, tiled=False, unknown=tiled)
        return min(max(1, few), self._most)

    def _affordable(self, allowed_ms: float, place: int, *, tiled: bool, unknown: int) -> int:
        price_ms = self._price_ms(place, tiled=tiled)
        return int(allowed_ms / price_ms) if allowed_ms and price_ms else unknown

    def _price_ms(self, place: int, *, tiled: bool) -> float:
        """Of a row there; where nothing is known, as in the nearest span before it, or else the
        first behind it. 0: nothing is known at all."""
        span = place // SPAN
        known = sorted(at for kind, at in self._row_ms if kind is tiled)
        before = [at for at in known if at <= span]
        nearest = before[-1:] or known[:1]
        return self._row_ms[tiled, nearest[0]] if nearest else 0.0

    def observe(self, *, decode_rows: int, prefill_rows: int, place: int, step_ms: float) -> None:
        """A step is over; `place`: where its furthest prompt stood before it."""
        if decode_rows and not prefill_rows:
            self._since = 0
            self._decode_ms = _average(self._decode_ms, step_ms, WEIGHT)
        elif prefill_rows:
            self._since += bool(decode_rows)
            if self._decode_ms or not decode_rows:
                own_ms = step_ms - (self._decode_ms if decode_rows else 0.0)
                self._learn(place // SPAN, prefill_rows, max(0.0, own_ms))

    def _learn(self, span: int, rows: int, own_ms: float) -> None:
        weight, at = WEIGHT * min(1.0, rows / SURE), (rows >= self._tile, span)
        self._row_ms[at] = _average(self._row_ms.get(at, 0.0), own_ms / rows, weight)


def _average(before: float, newest: float, weight: float) -> float:
    return before + weight * (newest - before) if before else newest
