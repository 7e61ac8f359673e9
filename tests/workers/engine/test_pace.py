"""Prompt chunks by measured time: small where a prompt token is dear, whole where nobody waits."""

from __future__ import annotations

import pytest

from workers.engine.pace import FIRST, RENEWED, Pace


def learned(*, decode_ms: float, row_ms: float, stretch: float = 2.0) -> Pace:
    pace = Pace(most=256, stretch=stretch)
    for _ in range(50):
        pace.observe(decode_rows=4, prefill_rows=20, place=0, step_ms=decode_ms + 20 * row_ms)
        pace.observe(decode_rows=4, prefill_rows=0, place=0, step_ms=decode_ms)
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


@pytest.mark.parametrize(("row_ms", "budget"), [(100.0, 1), (0.01, 256)])
def test_it_never_leaves_its_bounds(row_ms: float, budget: int) -> None:
    assert learned(decode_ms=30, row_ms=row_ms).budget(decoding=1, prefilling=1, place=0) == budget


def test_it_begins_careful() -> None:
    assert Pace(most=256, stretch=2).budget(decoding=1, prefilling=1, place=0) == FIRST
    assert Pace(most=4, stretch=2).budget(decoding=1, prefilling=1, place=0) == 4


def test_a_few_rows_teach_little_about_their_price() -> None:
    few, many = learned(decode_ms=30, row_ms=2), learned(decode_ms=30, row_ms=2)
    few.observe(decode_rows=4, prefill_rows=1, place=0, step_ms=60)
    many.observe(decode_rows=4, prefill_rows=20, place=0, step_ms=30 + 20 * 30)
    assert few.budget(decoding=4, prefilling=1, place=0) == 11
    assert many.budget(decoding=4, prefilling=1, place=0) == 3


def test_beside_a_long_prompt_now_and_then_a_step_goes_without() -> None:
    pace = learned(decode_ms=30, row_ms=2)
    budgets = []
    for _ in range(3 * (RENEWED + 1)):
        budgets.append(pace.budget(decoding=4, prefilling=1, place=0))
        step_ms = 30 + 2 * budgets[-1]
        pace.observe(decode_rows=4, prefill_rows=budgets[-1], place=0, step_ms=step_ms)
    assert budgets == 3 * (RENEWED * [15] + [0])


def test_what_the_others_texts_add_is_not_the_price_of_the_prompt() -> None:
    pace, decode_ms, budgets = learned(decode_ms=30, row_ms=2), 30.0, []
    for _ in range(400):
        budgets.append(pace.budget(decoding=4, prefilling=1, place=0))
        decode_ms += 0.2
        step_ms = decode_ms + 2 * budgets[-1]
        pace.observe(decode_rows=4, prefill_rows=budgets[-1], place=0, step_ms=step_ms)
    assert decode_ms == pytest.approx(110)
    assert 45 <= max(budgets[-2:]) <= 55


def test_where_nothing_decodes_after_all_a_due_step_takes_a_prompt() -> None:
    pace = learned(decode_ms=30, row_ms=2)
    for _ in range(RENEWED):
        pace.observe(decode_rows=4, prefill_rows=15, place=0, step_ms=60)
    assert pace.budget(decoding=4, prefilling=1, place=0) == 0
    assert pace.budget(decoding=4, prefilling=1, place=0) == 15


def test_no_stretch_means_no_limit() -> None:
    assert (
        learned(decode_ms=30, row_ms=2, stretch=0).budget(decoding=4, prefilling=1, place=0) == 256
    )


def test_a_place_far_into_a_prompt_has_a_price_of_its_own() -> None:
    pace = learned(decode_ms=30, row_ms=1)
    for _ in range(50):
        pace.observe(decode_rows=4, prefill_rows=5, place=4000, step_ms=30 + 5 * 10)
        pace.observe(decode_rows=4, prefill_rows=0, place=0, step_ms=30)
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


def test_alone_a_chunk_is_never_smaller_than_a_tile() -> None:
    pace = Pace(most=256, stretch=2, tile=64)
    pace.observe(decode_rows=0, prefill_rows=64, place=0, step_ms=64 * 10)
    assert pace.budget(decoding=0, prefilling=1, place=0) == 64
    assert Pace(most=32, stretch=2, tile=64).budget(decoding=0, prefilling=1, place=0) == 32


def test_a_few_rows_have_another_price_than_a_tile() -> None:
    pace = Pace(most=256, stretch=2, tile=64)
    pace.observe(decode_rows=1, prefill_rows=0, place=0, step_ms=40)
    pace.observe(decode_rows=0, prefill_rows=128, place=2000, step_ms=128 * 2)
    pace.observe(decode_rows=1, prefill_rows=4, place=2000, step_ms=40 + 4 * 10)
    assert pace.budget(decoding=1, prefilling=1, place=2000) == 4
    assert pace.budget(decoding=0, prefilling=1, place=2000) == 125


def test_where_a_tile_is_allowed_beside_others_it_is_taken() -> None:
    pace = Pace(most=256, stretch=2, tile=64)
    pace.observe(decode_rows=1, prefill_rows=0, place=0, step_ms=40)
    pace.observe(decode_rows=1, prefill_rows=4, place=0, step_ms=40 + 4 * 10)
    pace.observe(decode_rows=1, prefill_rows=64, place=0, step_ms=40 + 64 * 0.5)
    assert pace.budget(decoding=1, prefilling=1, place=0) == 80
