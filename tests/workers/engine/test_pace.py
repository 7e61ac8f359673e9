"""Prompt chunks by measured time: small where a prompt token is dear, whole where nobody waits."""

from __future__ import annotations

import pytest

from workers.engine.pace import FIRST, LEAST, Pace


def learned(*, decode_ms: float, row_ms: float, stretch: float = 2.0) -> Pace:
    pace = Pace(most=256, stretch=stretch)
    for _ in range(50):
        pace.observe(decode_rows=4, prefill_rows=0, place=0, step_ms=decode_ms)
        pace.observe(decode_rows=4, prefill_rows=20, place=0, step_ms=decode_ms + 20 * row_ms)
    return pace


def test_nobody_decoding_takes_what_a_quarter_second_holds() -> None:
    assert Pace(most=256, stretch=2).budget(decoding=0, prefilling=1, place=0) == 256
    assert learned(decode_ms=30, row_ms=0.5).budget(decoding=0, prefilling=1, place=0) == 256
    assert learned(decode_ms=30, row_ms=2.5).budget(decoding=0, prefilling=1, place=0) == 100


def test_a_chunk_stretches_a_step_as_far_as_allowed() -> None:
    assert learned(decode_ms=30, row_ms=2).budget(decoding=4, prefilling=1, place=0) == 15
    assert (
        learned(decode_ms=30, row_ms=2, stretch=3).budget(decoding=4, prefilling=1, place=0) == 30
    )


@pytest.mark.parametrize(("row_ms", "budget"), [(100.0, LEAST), (0.01, 256)])
def test_it_never_leaves_its_bounds(row_ms: float, budget: int) -> None:
    assert learned(decode_ms=30, row_ms=row_ms).budget(decoding=1, prefilling=1, place=0) == budget


def test_it_begins_careful() -> None:
    assert Pace(most=256, stretch=2).budget(decoding=1, prefilling=1, place=0) == FIRST
    assert Pace(most=4, stretch=2).budget(decoding=1, prefilling=1, place=0) == 4


def test_a_few_rows_teach_nothing_about_their_price() -> None:
    pace = learned(decode_ms=30, row_ms=2)
    pace.observe(decode_rows=4, prefill_rows=1, place=0, step_ms=500)
    assert pace.budget(decoding=4, prefilling=1, place=0) == 15


def test_no_stretch_means_no_limit() -> None:
    assert (
        learned(decode_ms=30, row_ms=2, stretch=0).budget(decoding=4, prefilling=1, place=0) == 256
    )


def test_a_place_far_into_a_prompt_has_a_price_of_its_own() -> None:
    pace = learned(decode_ms=30, row_ms=1)
    for _ in range(50):
        pace.observe(decode_rows=4, prefill_rows=5, place=4000, step_ms=30 + 5 * 10)
    assert pace.budget(decoding=4, prefilling=1, place=4000) == 3
    assert pace.budget(decoding=4, prefilling=1, place=0) == 30


def test_a_place_not_seen_yet_costs_what_the_nearest_before_it_does() -> None:
    pace = learned(decode_ms=30, row_ms=2)
    assert pace.budget(decoding=4, prefilling=1, place=2000) == 15
    later = Pace(most=256, stretch=2)
    later.observe(decode_rows=1, prefill_rows=0, place=0, step_ms=30)
    later.observe(decode_rows=1, prefill_rows=10, place=3000, step_ms=60)
    assert later.budget(decoding=1, prefilling=1, place=0) == 10


def test_far_into_a_prompt_a_single_row_is_allowed_and_teaches() -> None:
    pace = learned(decode_ms=30, row_ms=1)
    pace.observe(decode_rows=4, prefill_rows=1, place=5000, step_ms=130)
    assert pace.budget(decoding=4, prefilling=1, place=5000) == 1


def test_where_more_wait_for_their_first_token_they_get_more() -> None:
    pace = learned(decode_ms=30, row_ms=1)
    assert pace.budget(decoding=4, prefilling=4, place=0) == 30
    assert pace.budget(decoding=4, prefilling=5, place=0) == 250
    assert learned(decode_ms=400, row_ms=2).budget(decoding=1, prefilling=2, place=0) == 200
