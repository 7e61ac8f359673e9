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
from workers.engine.prices import Price, Prices
from workers.engine.sequence import Sequence

HOPE = 0.7  # share of right guesses before the first
SURE = 0.98  # at most; a chain of sixteen is then worth 0.72 of a token at its end
WEIGHT = 0.2  # of the newest in the averages


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
        drafts = _within(room, {one: guess[: lengths[one]] for one, guess in found.items()})
        return drafts if self._pays(drafts, price, len(wanted)) else {}

    def _pays(self, drafts: dict[Sequence, tuple[int, ...]], price: Price, sequences: int) -> bool:
        """Whether all of them together bring more tokens than their step takes longer for."""
        rows = sum(map(len, drafts.values()))
        hoped = sum(
            self._share[one] ** n for one, draft in drafts.items() for n in range(1, len(draft) + 1)
        )
        if rows and hoped <= price.fixed + price.row * rows:
            self._prices.declined(sequences)
            return False
        return True

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

    def _worth(self, sequence: Sequence, price: Price) -> int:
        """How many guesses in a row are each right often enough to pay for their rows."""
        share, length, chance = self._share.setdefault(sequence, HOPE), 0, 1.0
        while length < self._most and (chance := chance * share) >= price.row:
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
