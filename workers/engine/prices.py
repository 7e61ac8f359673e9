"""What guesses cost, in tokens: measured as it runs, for every number of sequences apart."""

from __future__ import annotations

import msgspec

WEIGHT = 0.2  # of the newest step without drafts
KEPT = 0.9  # of what is known of steps with drafts, at each new one
RENEWED = 64  # steps, after which it is time to see again what a step without drafts takes
SPREAD = 0.5  # of the numbers of drafts, below which they tell no line from a point


class Price(msgspec.Struct, frozen=True):
    """Of the drafts of a step: `fixed` for having any, and so much for each. A token is 1."""

    row: float = 0.25  # before anything is known
    fixed: float = 0.0


NEVER = Price(row=float("inf"))


class Prices:
    """A step of n sequences takes so long; with drafts it takes a fixed time more, because several
    rows of a sequence are computed in another way than one, and a time for each draft."""

    def __init__(self) -> None:
        self._plain_ms: dict[int, float] = {}
        self._lines: dict[int, _Line] = {}
        self._since: dict[int, int] = {}

    def of(self, sequences: int) -> Price:
        """NEVER when it is time for a step without drafts."""
        plain_ms = self._plain_ms.get(sequences)
        if plain_ms is None or self._since[sequences] >= RENEWED:
            return NEVER
        line = self._lines.get(sequences)
        if line is None:
            return Price()
        fixed_ms, row_ms = line.fit()
        token_ms = plain_ms / sequences
        return Price(row=row_ms / token_ms, fixed=fixed_ms / token_ms)

    def observe(self, sequences: int, drafts: int, step_ms: float) -> None:
        """A step of so many sequences with so many drafts in all took so long."""
        plain_ms = self._plain_ms.get(sequences)
        if not drafts:
            before_ms = step_ms if plain_ms is None else plain_ms
            self._plain_ms[sequences] = before_ms + WEIGHT * (step_ms - before_ms)
            self._since[sequences] = 0
        elif plain_ms is not None:
            line = self._lines.setdefault(sequences, _Line())
            line.add(drafts, max(0.0, step_ms - plain_ms))
            self._since[sequences] += 1

    def declined(self, sequences: int) -> None:
        """Drafts did not seem to pay: after a while that is to be tried again."""
        line = self._lines.get(sequences)
        if line is not None and line.declined():
            del self._lines[sequences]


class _Line:
    """A line through points, of which older ones count for less."""

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._declined = 0

    def add(self, x: float, y: float) -> None:
        """One more point."""
        self._n = KEPT * self._n + 1
        self._x = KEPT * self._x + x
        self._y = KEPT * self._y + y
        self._xx = KEPT * self._xx + x * x
        self._xy = KEPT * self._xy + x * y

    def fit(self) -> tuple[float, float]:
        """Height at 0 and slope, neither negative; through 0 where all points stand together."""
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x**2
        slope = (self._xy / self._n - mean_x * mean_y) / spread if spread >= SPREAD else -1.0
        fixed = mean_y - slope * mean_x
        if slope < 0 or fixed < 0:
            return 0.0, self._xy / self._xx
        return fixed, slope

    def declined(self) -> bool:
        """Whether it was so often that the line is too old."""
        self._declined += 1
        return self._declined >= RENEWED
