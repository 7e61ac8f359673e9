"""Cached prefixes that had to leave the KV cells, in host memory: what is kept, and what goes,
least recently used first. Pure: the runner copies, and says how large a state is when it does.

A prefix that others hold nearly whole, here or in the cells, is not worth its bytes. Where memory
can be cut, a longer state stands for those it begins with; else each is of use as a whole only.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np

from workers.engine.plan import Bytes
from workers.engine.prefixes import Prefixes

WORTH_SAVING = 64  # tokens that nobody else holds
WORTH_LOADING = 64  # tokens more than the cells hold
MOST_LOADED = 8  # a state is loaded whole, be it so many times what is of use
NOTHING: Bytes = np.empty(0, np.uint8)


class Entry:
    """plan.Saved: `tokens` of a `kind` (slots.py), and what a slot's memory held of them, once the
    runner has saved it."""

    def __init__(self, cache: HostCache, tokens: tuple[int, ...], kind: Hashable) -> None:
        self.tokens = tokens
        self.kind = kind
        self.data = NOTHING
        self._cache = cache

    def allot(self, size: int) -> Bytes | None:
        """Memory for the state; None: it is too large for the cache."""
        return self._cache.admit(self, size)


class HostCache:
    """At most `most_bytes` of states; 0 = it keeps nothing."""

    def __init__(self, *, most_bytes: int, can_cut: bool) -> None:
        self.used_bytes = 0
        self._most_bytes = most_bytes
        self._can_cut = can_cut
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._prefixes = Prefixes()
        self._numbers = itertools.count()

    @property
    def off(self) -> bool:
        """Whether it keeps nothing."""
        return not self._most_bytes

    def find(
        self, tokens: Sequence[int], kind: Hashable, *, held: int, room: int
    ) -> tuple[Entry | None, int]:
        """The state that begins with most of `tokens`, and with how many, if that is worth loading
        where the cells hold `held` of them and have room for so many. None: none is."""
        entry, length = self._longest(tokens, kind)
        more = length - held
        if entry is None or more < WORTH_LOADING or MOST_LOADED * more < len(entry.tokens):
            return None, 0
        return (entry, length) if len(entry.tokens) <= room else (None, 0)

    def _longest(self, tokens: Sequence[int], kind: Hashable) -> tuple[Entry | None, int]:
        """The smallest of those that begin with most of `tokens`."""
        best, length = None, 0
        for depth, numbers in self._prefixes.path(tokens, kind):
            entries = [self._entries[number] for number in numbers]
            usable = [one for one in entries if self._can_cut or len(one.tokens) == depth]
            if usable:
                best, length = min(usable, key=lambda one: len(one.tokens)), depth
        return best, length

    def place(self, tokens: tuple[int, ...], kind: Hashable, *, held: int) -> Entry | None:
        """Where to save a prefix of which others hold `held` tokens in the cells; None: it is not
        worth it, or has images in it, whose positions only their prompt knows."""
        if self.off or len(tokens) - held < WORTH_SAVING or min(tokens) < 0:
            return None
        _, kept = self._longest(tokens, kind)
        return Entry(self, tokens, kind) if len(tokens) - kept >= WORTH_SAVING else None

    def admit(self, entry: Entry, size: int) -> Bytes | None:
        """Let a state of so many bytes in; older ones make way. None: it is too large."""
        if size > self._most_bytes:
            return None
        for number in self._replaced_by(entry):
            self._drop(number)
        while self.used_bytes + size > self._most_bytes:
            self._drop(next(iter(self._entries)))
        number = next(self._numbers)
        self._entries[number] = entry
        self._prefixes.insert(number, entry.tokens, entry.kind)
        entry.data = np.empty(size, np.uint8)
        self.used_bytes += size
        return entry.data

    def touch(self, entry: Entry) -> None:
        """It was of use: others go before it."""
        number = next(number for number, one in self._entries.items() if one is entry)
        self._entries.move_to_end(number)

    def check(self) -> None:
        """All counts are right. Raises AssertionError."""
        assert self.used_bytes == sum(len(one.data) for one in self._entries.values())
        assert self.used_bytes <= self._most_bytes, "more bytes than allowed"
        assert all(
            self._prefixes.tokens(number) == one.tokens for number, one in self._entries.items()
        )
        self._prefixes.check()

    def _replaced_by(self, entry: Entry) -> list[int]:
        """Those that are of no use beside it."""
        least = 0 if self._can_cut else len(entry.tokens)
        return [
            number
            for depth, numbers in self._prefixes.path(entry.tokens, entry.kind)
            for number in numbers
            if least <= depth == len(self._entries[number].tokens)
        ]

    def _drop(self, number: int) -> None:
        self._prefixes.remove(number)
        self.used_bytes -= len(self._entries.pop(number).data)
