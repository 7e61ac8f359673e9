"""Speculative decoding: which guesses are worth a row, learned from what came of those before.

A guess is computed in the same step as the token before it, and counts only if it is what is then
drawn: the text is the same with and without. What a row more costs differs by machine and company:
little on a GPU; on a CPU, half a token's time for a lone sequence and nearly a whole one among
eight. So both sides are measured, the price of a row and each sequence's share of right guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from workers.engine.lookup import PromptLookup
from workers.engine.sequence import Sequence

HOPE = 0.7  # share of right guesses before the first
SURE = 0.98  # at most; a chain of sixteen is then worth 0.72 of a token at its end
WEIGHT = 0.2  # of the newest in the averages
UNKNOWN_PRICE = 0.5  # of a row in tokens
RENEWED = 64  # steps with drafts, after which one without shows again what that costs


class Drafter(Protocol):
    """Guesses what sequences will say next."""

    shadow: bool  # a guess costs nothing, so it is made also where no row is spent on it

    def draft(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, tuple[int, ...]]:
        """For each sequence at most so many tokens."""

    def forget(self, sequence: Sequence) -> None:
        """The sequence has lost its slot."""


class Speculation:
    """`most` guesses a sequence and step, 0 = none; `drafter`: prompt lookup unless given."""

    def __init__(
        self, drafter: Drafter | None = None, *, most: int = 0, prices: Prices | None = None
    ) -> None:
        self._drafter = drafter or PromptLookup()
        self._most = most
        self._prices = prices or Prices()
        self._share: dict[Sequence, float] = {}
        self._guesses: dict[Sequence, tuple[int, tuple[int, ...]]] = {}

    def propose(
        self, wanted: Mapping[Sequence, int], *, room: int
    ) -> dict[Sequence, tuple[int, ...]]:
        """Drafts worth their rows, for each sequence at most as many as wanted, in all at most
        `room`."""
        if not self._most or not wanted:
            return {}
        self._learn(wanted)
        price = self._prices.of(len(wanted))
        lengths = {one: min(self._worth(one, price), most) for one, most in wanted.items()}
        asked = {one: self._shadowed(length, wanted[one]) for one, length in lengths.items()}
        found = self._drafter.draft({one: most for one, most in asked.items() if most > 0})
        self._guesses = {one: (len(one.tokens), guess) for one, guess in found.items() if guess}
        return _within(room, {one: guess[: lengths[one]] for one, guess in found.items()})

    def forget(self, sequence: Sequence) -> None:
        """The sequence has lost its slot."""
        self._share.pop(sequence, None)
        self._guesses.pop(sequence, None)
        self._drafter.forget(sequence)

    def observe(self, sequences: int, drafts: int, *, step_ms: float) -> None:
        """A step without prefill is over."""
        if self._most and sequences:
            self._prices.observe(sequences, drafts, step_ms)

    def _shadowed(self, length: int, most: int) -> int:
        return max(length, min(1, most)) if self._drafter.shadow else length

    def _worth(self, sequence: Sequence, price: float) -> int:
        """How many guesses in a row are each right often enough to pay for their rows."""
        share, length, chance = self._share.setdefault(sequence, HOPE), 0, 1.0
        while length < self._most and (chance := chance * share) >= price:
            length += 1
        return length

    def _learn(self, sequences: Iterable[Sequence]) -> None:
        """Compare the last guesses with what was said. A sequence that nobody guessed for is given
        hope again, where guessing is not free."""
        for one in sequences:
            share = self._share.get(one, HOPE)
            at, guess = self._guesses.pop(one, (0, ()))
            said = one.tokens[at : at + len(guess)] if guess else []
            right = agreed(said, guess)
            for hit in [True] * right + [False] * (right < len(said)):
                share += WEIGHT * (hit - share)
            if not guess and not self._drafter.shadow:
                share += WEIGHT / 16 * (1 - share)
            self._share[one] = min(SURE, share)


class Prices:
    """What a row more costs in a step of so many sequences, as a part of what a token costs."""

    def __init__(self) -> None:
        self._plain_ms: dict[int, float] = {}
        self._row_ms: dict[int, float] = {}
        self._since: dict[int, int] = {}

    def of(self, sequences: int) -> float:
        """The price; infinite when it is time for a step without drafts."""
        plain_ms = self._plain_ms.get(sequences)
        if plain_ms is None or self._since[sequences] >= RENEWED:
            return float("inf")
        row_ms = self._row_ms.get(sequences)
        return UNKNOWN_PRICE if row_ms is None else row_ms * sequences / plain_ms

    def observe(self, sequences: int, drafts: int, step_ms: float) -> None:
        """A step of so many sequences with so many drafts in all took so long."""
        if not drafts:
            self._plain_ms[sequences] = _average(self._plain_ms.get(sequences), step_ms)
            self._since[sequences] = 0
        elif sequences in self._plain_ms:
            row_ms = max(0.0, step_ms - self._plain_ms[sequences]) / drafts
            self._row_ms[sequences] = _average(self._row_ms.get(sequences), row_ms)
            self._since[sequences] += 1


def agreed(said: Iterable[int], guess: Iterable[int]) -> int:
    """How many tokens at the head are the same."""
    count = 0
    for one, other in zip(said, guess, strict=False):
        if one != other:
            break
        count += 1
    return count


def _within(room: int, drafts: dict[Sequence, tuple[int, ...]]) -> dict[Sequence, tuple[int, ...]]:
    """No more rows in all than `room`; nobody loses all of his to another."""
    fair = max(0, room) // max(1, sum(1 for draft in drafts.values() if draft))
    return {one: draft[:fair] for one, draft in drafts.items() if draft[:fair]}


def _average(before: float | None, newest: float) -> float:
    return newest if before is None else before + WEIGHT * (newest - before)
