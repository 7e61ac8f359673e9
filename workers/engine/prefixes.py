"""A radix tree over token ids: which slots begin with which tokens. Knows no cells, no policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


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


class Prefixes:
    """Token sequences of slots, one each."""

    def __init__(self) -> None:
        self._root = _Node((), set())
        self._tokens: dict[int, tuple[int, ...]] = {}

    def tokens(self, slot: int) -> tuple[int, ...]:
        """What a slot was inserted with; empty if it was not."""
        return self._tokens.get(slot, ())

    def insert(self, slot: int, tokens: Sequence[int]) -> None:
        """Remember that `slot` holds, or will hold, `tokens`. It must not be in the tree."""
        assert slot not in self._tokens
        whole = self._tokens[slot] = tuple(tokens)
        node, at = self._root, 0
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
        whole = self._tokens.pop(slot, ())
        node, at = self._root, 0
        while at < len(whole):
            child = node.children[whole[at]]
            child.slots.discard(slot)
            if not child.slots:
                del node.children[whole[at]]
                return
            node, at = child, at + len(child.run)

    def path(self, tokens: Sequence[int]) -> Iterator[tuple[int, set[int]]]:
        """(how many of `tokens` are shared, by which slots), from short to long."""
        whole = tuple(tokens)
        node, at = self._root, 0
        while at < len(whole) and (child := node.children.get(whole[at])):
            common = _common(child.run, whole, at)
            yield at + common, child.slots
            if common < len(child.run):
                return
            node, at = child, at + common

    def check(self) -> None:
        """Every slot's tokens are in the tree, and nothing else is. Raises AssertionError."""
        for slot, tokens in self._tokens.items():
            depths = [depth for depth, slots in self.path(tokens) if slot in slots]
            assert not tokens or depths[-1] == len(tokens), f"slot {slot} is not in the tree"
        assert _slots_below(self._root) <= self._tokens.keys(), "a slot was left in the tree"


def _common(run: tuple[int, ...], tokens: tuple[int, ...], at: int) -> int:
    """How many tokens of `run` stand in `tokens` from `at` on."""
    if run == tokens[at : at + len(run)]:
        return len(run)
    pairs = zip(run, tokens[at:], strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), len(tokens) - at)


def _slots_below(node: _Node) -> set[int]:
    return node.slots.union(*map(_slots_below, node.children.values()))
