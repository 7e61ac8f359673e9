"""Sequence ids, cells and the radix tree, by themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.cells import Cells
from workers.engine.plan import Copy, Cut
from workers.engine.prefixes import Prefixes
from workers.engine.seeds import mix, sampler_seed
from workers.engine.slots import Found, Slots

TOKENS = st.lists(st.integers(0, 2), max_size=12)


@given(st.lists(TOKENS, max_size=10), TOKENS, st.data())
def test_the_tree_finds_what_a_comparison_finds(
    inserted: list[list[int]], wanted: list[int], data: st.DataObject
) -> None:
    tree = Prefixes()
    for slot, tokens in enumerate(inserted):
        tree.insert(slot, tokens)
    gone = data.draw(st.sets(st.sampled_from(range(len(inserted))))) if inserted else set()
    for slot in gone:
        tree.remove(slot)
    tree.check()
    found: dict[int, int] = {}
    for depth, slots in tree.path(wanted):
        for slot in slots:
            found[slot] = depth
    for slot, tokens in enumerate(inserted):
        pairs = zip(tokens, wanted, strict=False)
        common = next(
            (n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(wanted))
        )
        assert found.get(slot, 0) == (0 if slot in gone else common)


def test_an_empty_tree_holds_nothing_after_removals() -> None:
    tree = Prefixes()
    tree.insert(0, [1, 2, 3])
    tree.insert(1, [1, 2, 4])
    tree.remove(0)
    tree.remove(1)
    tree.remove(1)
    assert list(tree.path([1, 2, 3])) == []
    assert tree.tokens(0) == ()


def test_cells_are_counted_once_however_many_share_them() -> None:
    cells = Cells(cells=10, slots=3)
    cells.wake(0)
    cells.grow(0, 6)
    cells.wake(1)
    cells.share(0, 1, 4)
    cells.grow(1, 2)
    assert (cells.used, cells.live, cells.idle, cells.free) == (8, 8, 0, 2)
    cells.rest(0)
    assert (cells.used, cells.live, cells.idle) == (8, 6, 2)
    assert cells.live_part(0, 6) == 4
    cells.clear(0)
    assert (cells.used, cells.live) == (6, 6)
    cells.check()


def test_cells_that_are_not_there_cannot_be_given() -> None:
    cells = Cells(cells=3, slots=1)
    with pytest.raises(AssertionError, match="no free cells"):
        cells.grow(0, 4)


def opened(**config: object) -> Slots:
    return Slots(**{"sequence_ids": 3, "cells": 100, "idle_cells": 100, "can_cut": True, **config})


def fill(slots: Slots, tokens: list[int]) -> int:
    """Claim, compute and retire."""
    found = slots.find(tokens, limit=len(tokens) - 1)
    slot = slots.claim(tokens, found, spare=0)
    assert slot is not None
    slots.make_room(len(tokens) - found.length)
    slots.grow(slot, len(tokens) - found.length)
    return slot


def test_a_cached_prefix_is_shared_by_a_copy_or_taken_over_whole() -> None:
    slots = opened()
    slots.retire(fill(slots, [1, 2, 3, 4]), [1, 2, 3, 4])
    assert slots.find([1, 2, 3, 9, 9], limit=4) == Found(0, 3, 0, 3)
    copied = fill(slots, [1, 2, 3, 9, 9])
    assert slots.take_edits() == (Copy(0, copied, 3),)
    assert fill(slots, [1, 2, 3, 4, 5]) == 0
    assert slots.take_edits() == ()
    assert slots.used == 4 + 2 + 1
    slots.check()


def test_what_is_not_computed_yet_is_announced_as_coming() -> None:
    slots = opened()
    slot = slots.claim([1, 2, 3, 4], Found(), spare=0)
    assert slot is not None
    slots.grow(slot, 2)
    assert slots.find([1, 2, 3, 9], limit=3) == Found(slot, 2, slot, 3)


def test_an_id_is_taken_from_the_oldest_prefix_but_not_from_the_source() -> None:
    slots = opened()
    for first in (1, 2, 3):
        slots.retire(fill(slots, [first, 0, 0]), [first, 0, 0])
    slots.take_edits()
    target = fill(slots, [1, 0, 9, 9])
    assert slots.take_edits() == (Cut(target, 0), Copy(0, target, 2))
    assert not slots.find([2, 0, 0], limit=3).length
    assert slots.find([3, 0, 0], limit=3).length == 3
    slots.check()


def test_a_claim_leaves_spare_cells_to_others() -> None:
    slots = opened(cells=10)
    slots.grow(slots.claim([1] * 4, Found(), spare=0) or 0, 4)
    assert slots.claim([2] * 5, Found(), spare=2) is None
    assert slots.claim([2] * 5, Found(), spare=1) is not None


def test_seeds_differ_by_seed_and_by_position_and_never_mean_random() -> None:
    seeds = {sampler_seed(seed, position) for seed in range(50) for position in range(50)}
    assert len(seeds) == 2500
    assert max(seeds) < 0xFFFFFFFF
    assert mix(1, 2) == mix(1, 2) != mix(2, 1)
