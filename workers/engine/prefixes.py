"""Radix trees over token ids: which slots begin with which tokens. Knows no cells, no policy.

Each kind has a tree of its own: slots of two kinds share nothing, however alike their tokens are.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence


class _Node:
    __slots__ = ("children", "run", "slots")

    def __init__(self, run: tuple[int, ...], slots: set[int]) -> None:
        self.run = run
        self.slots = slots
        self.children: dict[int, _Node] = {}

    def split(self, at: int) -> None:
        """Cut the run at `at`; the rest becomes the only child."""
        rest = _Node(self.run[at:], set(self.slots))
        rest.children = self.children
        self.children = {rest.run[0]: rest}
        self.run = self.run[:at]


_EMPTY = _Node((), set())


class Prefixes:
    """Token sequences of slots, one each."""

    def __init__(self) -> None:
        self._roots: dict[Hashable, _Node] = {}
        self._kinds: dict[int, Hashable] = {}
        self._tokens: dict[int, tuple[int, ...]] = {}

    def tokens(self, slot: int) -> tuple[int, ...]:
        """What a slot was inserted with; empty if it was not."""
        return self._tokens.get(slot, ())

    def kind(self, slot: int) -> Hashable:
        """Of a slot that was inserted."""
        return self._kinds[slot]

    def insert(self, slot: int, tokens: Sequence[int], kind: Hashable = ()) -> None:
        """Remember that `slot` holds, or will hold, `tokens`. It must not be in a tree."""
        assert slot not in self._tokens
        whole = self._tokens[slot] = tuple(tokens)
        self._kinds[slot] = kind
        node, at = self._roots.setdefault(kind, _Node((), set())), 0
        while at < len(whole):
            child = node.children.get(whole[at])
            if child is None:
                node.children[whole[at]] = _Node(whole[at:], {slot})
                return
            common = _common(child.run, whole, at)
            if common < len(child.run):
                child.split(common)
            child.slots.add(slot)
            node, at = child, at + common

    def remove(self, slot: int) -> None:
        """Forget a slot's tokens; a slot that has none is nothing."""
        if slot in self._tokens:
            whole, kind = self._tokens.pop(slot), self._kinds.pop(slot)
            root = self._roots.get(kind, _EMPTY)
            _take_out(root, slot, whole)
            if not root.children:
                self._roots.pop(kind, None)

    def path(self, tokens: Sequence[int], kind: Hashable = ()) -> Iterator[tuple[int, set[int]]]:
        """(how many of `tokens` are shared, by which slots), from short to long."""
        whole = tuple(tokens)
        node, at = self._roots.get(kind, _EMPTY), 0
        while at < len(whole) and (child := node.children.get(whole[at])):
            common = _common(child.run, whole, at)
            yield at + common, child.slots
            if common < len(child.run):
                return
            node, at = child, at + common

    def check(self) -> None:
        """Every slot's tokens are in the tree, and nothing else is. Raises AssertionError."""
        for slot, tokens in self._tokens.items():
            path = self.path(tokens, self._kinds[slot])
            depths = [depth for depth, slots in path if slot in slots]
            assert not tokens or depths[-1] == len(tokens), f"slot {slot} is not in the tree"
        assert self._kinds.keys() == self._tokens.keys(), "a slot has no kind"
        for kind, root in self._roots.items():
            inside = {slot for slot, its in self._kinds.items() if its == kind}
            assert _slots_below(root) <= inside, "a slot was left in the tree"


def _take_out(node: _Node, slot: int, whole: tuple[int, ...]) -> None:
    at = 0
    while at < len(whole):
        child = node.children[whole[at]]
        child.slots.discard(slot)
        if not child.slots:
            del node.children[whole[at]]
            return
        node, at = child, at + len(child.run)


def _common(run: tuple[int, ...], tokens: tuple[int, ...], at: int) -> int:
    """How many tokens of `run` stand in `tokens` from `at` on."""
    if run == tokens[at : at + len(run)]:
        return len(run)
    pairs = zip(run, tokens[at:], strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(tokens) - at)


def _slots_below(node: _Node) -> set[int]:
    return node.slots.union(*map(_slots_below, node.children.values()))
