"""Prefixes whose cells others needed: saved in host memory, loaded again instead of computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.requests import Sampling
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from workers.engine.host_cache import WORTH_SAVING, HostCache
from workers.engine.media import Media
from workers.engine.plan import Cut, Load, Save
from workers.engine.slots import Found, Slots

A, B, C = (letter * 100 for letter in "abc")
LARGE = 10_000  # bytes; the scripted runner's states take one a token


def desk_of(*, host: int = LARGE, idle: int = 100, **runner: object) -> Desk:
    """Cells for one idle prefix of a hundred tokens."""
    return Desk(ScriptedRunner(**runner), prefix_cache=idle, host_cache_bytes=host)  # type: ignore[arg-type]


def computed(desk: Desk, prompt: str, **fields: object) -> int:
    """How many rows an answer of one token took, which is what it would be without a cache."""
    before, key = desk.runner.computed, f"{prompt} {len(desk.ends)}"
    desk.answer(prompt, key=key, max_tokens=1, **fields)
    assert desk.text[key] == Desk().answer(prompt, max_tokens=1, **fields)
    return desk.runner.computed - before


def edits(desk: Desk, kind: type) -> list[Any]:
    return [one for one in desk.runner.edits if isinstance(one, kind)]


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), Sampling(temperature=0.9)])
def test_what_left_the_cells_is_not_computed_again(sampling: Sampling) -> None:
    desk = desk_of()
    assert computed(desk, A) == computed(desk, B) == 100
    assert computed(desk, A + "?", sampling=sampling) == 1
    assert desk.ends[A + "? 2"].cached_tokens == 100
    assert len(edits(desk, Load)) == 1
    assert desk.stats[-1].saved_bytes == 100


def test_without_it_everything_is_computed_again() -> None:
    desk = desk_of(host=0)
    assert [computed(desk, prompt) for prompt in (A, B, A)] == [100, 100, 100]
    assert edits(desk, Save) == []


def test_of_a_state_that_goes_on_otherwise_the_beginning_is_used() -> None:
    desk = desk_of(idle=200)
    computed(desk, A + B)
    computed(desk, C * 2)
    assert computed(desk, A + C) == 100
    (load,) = edits(desk, Load)
    assert load.saved.tokens == tuple((A + B).encode())
    assert Cut(load.slot, 100) in edits(desk, Cut)


def test_memory_that_cannot_be_cut_comes_back_whole_or_not_at_all() -> None:
    desk = desk_of(can_cut=False, sequence_ids=4)
    computed(desk, A)
    computed(desk, B)
    assert computed(desk, A + "?") == 1
    computed(desk, B)
    assert computed(desk, A[:-1]) == 99
    assert not any(cut.keep for cut in edits(desk, Cut))


def test_what_the_cells_hold_is_not_loaded() -> None:
    desk = desk_of(idle=200)
    for prompt in (A, B, C, A + "1"):
        computed(desk, prompt)
    assert computed(desk, A + "2") == 1
    assert len(edits(desk, Load)) == 1


def test_a_state_that_is_mostly_of_no_use_is_not_loaded() -> None:
    desk = desk_of(idle=1000, context_length=2000)
    computed(desk, A + "x" * 900)
    computed(desk, "y" * 1000)
    assert computed(desk, A + "z") == 101


def test_many_who_return_at_once_load_once() -> None:
    desk = desk_of(slots=8, idle=200)
    for prompt in (A, B, C):
        computed(desk, prompt)
    before = desk.runner.computed
    for n in range(8):
        desk.submit(f"{A} user {n}", max_tokens=1)
    desk.run()
    assert desk.runner.computed - before == len(" user 0") + 7
    assert len(edits(desk, Load)) == 1


def test_short_prefixes_and_those_held_by_others_are_not_saved() -> None:
    desk = desk_of(idle=10)
    computed(desk, "s" * (WORTH_SAVING - 1))
    assert edits(desk, Save) == []
    desk = desk_of(idle=250)
    for n in range(5):
        computed(desk, f"{A} {n}")
    computed(desk, B)
    computed(desk, C)
    desk.step()
    (saved,) = edits(desk, Save)
    assert saved.into.tokens[:100] == tuple(A.encode())


def test_the_oldest_states_make_way() -> None:
    desk = desk_of(host=250)
    for prompt in (A, B, C, "d" * 100):
        computed(desk, prompt)
    assert [computed(desk, prompt + "?") for prompt in (B, A)] == [1, 101]


def test_a_state_that_was_of_use_stays_longer() -> None:
    desk = desk_of(host=250)
    for prompt in (A, B, C, A + "?", "d" * 100):
        computed(desk, prompt)
    assert [computed(desk, prompt + "!") for prompt in (A, B)] == [1, 101]


def test_where_memory_cannot_be_cut_a_longer_state_does_not_replace_a_shorter_one() -> None:
    desk = desk_of(can_cut=False, idle=200, sequence_ids=4)
    for prompt in (A, B * 2, A + C, B * 2):
        computed(desk, prompt)
    assert [computed(desk, prompt + "?") for prompt in (A, A + C)] == [1, 1]


def test_idle_prefixes_make_way_for_a_whole_state() -> None:
    desk = desk_of(cells=300, idle=300, context_length=300)
    computed(desk, A + B)
    computed(desk, C * 2)
    assert computed(desk, A + "?") == 1
    assert desk.runner.used == 101


def test_less_of_what_was_saved_can_be_wanted() -> None:
    entry = HostCache(most_bytes=LARGE, can_cut=True).place(tuple(A.encode()), (), held=0)
    for can_cut, cut in ((True, Found(-1, 50, saved=entry)), (False, Found())):
        slots = Slots(sequence_ids=1, cells=200, idle_cells=0, can_cut=can_cut)
        assert slots.cut(Found(-1, 100, saved=entry), 50) == cut


def test_a_state_larger_than_all_of_it_is_not_kept() -> None:
    desk = desk_of(host=99)
    assert [computed(desk, prompt) for prompt in (A, B, A)] == [100, 100, 100]


def test_a_prompt_that_needs_the_cells_at_once_does_not_wait_for_a_load() -> None:
    desk = desk_of(cells=300, idle=300, context_length=300)
    computed(desk, A + B)
    computed(desk, C + "d" * 110)
    desk.submit("e" * 60, key="runs", max_tokens=80)
    desk.step(45)
    assert computed(desk, A + "?") >= 101
    assert edits(desk, Load) == []


def test_what_other_adapters_computed_is_not_loaded() -> None:
    style = (("style", 1.0),)
    desk = desk_of()
    computed(desk, A, adapters=style)
    computed(desk, B)
    assert computed(desk, A + "?") == 101
    assert computed(desk, A + "!", adapters=style) == 1


def test_images_are_not_saved() -> None:
    ids = tuple(range(-1, -81, -1))
    rows = [[65.0, 0.0]] * len(ids)
    image = Media(
        ids=ids,
        rows=np.array(rows, np.float32),
        places=np.arange(len(ids), dtype=np.int32)[None].repeat(4, 0),
        span=len(ids),
    )
    desk = desk_of(idle=50, batch_rows=128)
    desk.submit((*ids, *A.encode()), key="sees", max_tokens=1, media=(image,))
    desk.run()
    desk.step()
    assert edits(desk, Save) == []


def test_a_device_that_finds_no_cells_loses_no_prefix() -> None:
    desk = desk_of(idle=1000)
    computed(desk, A)
    desk.runner.refuse = 1
    desk.answer(B, max_tokens=1)
    assert computed(desk, A + "?") == 1


TOKENS = st.lists(st.integers(0, 1), min_size=WORTH_SAVING, max_size=WORTH_SAVING + 6).map(
    lambda tail: (*[7] * WORTH_SAVING, *tail)
)


@given(st.lists(st.tuples(TOKENS, st.integers(1, 40)), max_size=12), TOKENS, st.booleans())
def test_the_books_are_right(saved: list, wanted: Sequence[int], can_cut: bool) -> None:
    cache = HostCache(most_bytes=100, can_cut=can_cut)
    kept = []
    for tokens, size in saved:
        place = cache.place(tokens, (), held=0)
        if place is not None and place.allot(size) is not None:
            kept.append(place)
        cache.check()
    entry, length = cache.find(wanted, (), held=0, room=1000)
    assert (entry is None) == (length == 0)
    if entry is not None:
        assert entry in kept
        assert entry.tokens[:length] == tuple(wanted[:length])
        assert can_cut or length == len(entry.tokens)
