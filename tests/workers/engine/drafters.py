"""Drafters for tests: always wrong, or nearly always right; and rows that cost nothing."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fakes import ScriptedRunner
from workers.engine.prices import Price, Prices
from workers.engine.sequence import Sequence


class Free(Prices):
    """A row more costs nothing: every guess is worth it."""

    price = Price(row=0.0)

    def of(self, sequences: int) -> Price:
        """Nothing."""
        return self.price


class Wrong:
    """speculation.Drafter that guesses what never comes."""

    shadow = True

    def draft(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, tuple[int, ...]]:
        """Upper-case letters."""
        return {one: (65,) * most for one, most in wanted.items()}

    def forget(self, sequence: Sequence) -> None:
        """Nothing is kept."""


class Knowing(Wrong):
    """Guesses what a ScriptedRunner finds most likely, whatever its sampler then draws."""

    def draft(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, tuple[int, ...]]:
        """Its best tokens, one after another."""
        return {one: self._following(one, most) for one, most in wanted.items()}

    def _following(self, one: Sequence, most: int) -> tuple[int, ...]:
        held, runner = bytes(one.tokens), ScriptedRunner()
        for _ in range(most):
            held += bytes([int(runner._logits_after(held, one.adapters).argmax())])
        return tuple(held[len(one.tokens) :])
