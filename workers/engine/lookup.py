"""Prompt lookup: what followed the last time that the same few tokens stood in the sequence. Needs
no second model; right where an answer repeats its prompt or itself (code, quotes, tables)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from workers.engine.sequence import Sequence

LENGTHS = (5, 3, 2)  # of the tokens looked up, the longest first

Gram = tuple[int, ...]


class PromptLookup:
    """speculation.Drafter over the sequences' own tokens."""

    shadow = True

    def __init__(self) -> None:
        self._indexes: dict[Sequence, _Index] = {}

    def draft(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, Gram]:
        """See Drafter."""
        return {one: self._index(one).guess(one.tokens, most) for one, most in wanted.items()}

    def forget(self, sequence: Sequence) -> None:
        """See Drafter."""
        self._indexes.pop(sequence, None)

    def _index(self, sequence: Sequence) -> _Index:
        return self._indexes.setdefault(sequence, _Index())


class _Index:
    """Where each gram of a growing list of tokens ends, the last time but for the end itself."""

    def __init__(self) -> None:
        self._seen = 0
        self._ends: dict[Gram, int] = {}

    def guess(self, tokens: list[int], most: int) -> Gram:
        """Up to `most` tokens that may follow; none if the end of `tokens` is new."""
        self._read(tokens)
        for length in LENGTHS:
            end = self._ends.get(tuple(tokens[-length:]))
            if end is not None and len(tokens) > length:
                return _following(tokens, end, most)
        return ()

    def _read(self, tokens: list[int]) -> None:
        """Index what came since; not the grams at the very end, which are what is looked up."""
        for end in range(self._seen, len(tokens)):
            for length in LENGTHS:
                if end >= length:
                    self._ends[tuple(tokens[end - length : end])] = end
        self._seen = len(tokens)


def _following(tokens: list[int], end: int, most: int) -> Gram:
    """The tokens from `end` on, up to an image; a text that repeats itself goes on doing so."""
    period = len(tokens) - end
    found = (tokens[end + n % period] for n in range(most))
    return tuple(takewhile(lambda token: token >= 0, found))
