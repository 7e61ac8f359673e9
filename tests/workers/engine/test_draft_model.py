"""A second model guesses: the text stays the first one's, the second one's memory stays right."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.requests import Sampling
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from tests.workers.engine.drafters import Free
from workers.engine.draft_model import DraftModel
from workers.engine.speculation import Speculation

DRAWN = Sampling(temperature=0.7)


def guided(small: Any = None, runner: ScriptedRunner | None = None, most: int = 6) -> Desk:
    """An engine whose guesses come from another runner."""
    drafter = DraftModel(small or ScriptedRunner(cells=8192))
    speculation = Speculation(drafter, most=most, prices=Free())
    return Desk(runner or ScriptedRunner(), speculation=speculation)


def drafted(desk: Desk) -> int:
    return sum(stats.draft_tokens for stats in desk.stats)


def accepted(desk: Desk) -> int:
    return sum(stats.accepted_tokens for stats in desk.stats)


def test_a_model_that_thinks_alike_is_always_right() -> None:
    plain, quick = Desk(), guided()
    assert quick.answer("hello", max_tokens=43) == plain.answer("hello", max_tokens=43)
    assert drafted(quick) == accepted(quick) >= 34
    assert len(quick.runner.plans) <= 10


def test_another_one_is_sometimes_wrong_and_nothing_is_lost() -> None:
    small = ScriptedRunner({"hello 1": "x" * 60}, cells=8192)
    plain, quick = Desk(), guided(small)
    for desk in (plain, quick):
        for n in range(4):
            desk.submit(f"hello {n}", sampling=DRAWN, seed=n, max_tokens=40)
        desk.run()
    assert quick.text == plain.text
    assert drafted(quick) > accepted(quick) > 0


def test_what_is_over_leaves_the_second_memory_too() -> None:
    small = ScriptedRunner(slots=2, cells=8192)
    desk = guided(small)
    for n in range(6):
        desk.submit(f"question {n}", max_tokens=10 + n)
    desk.run()
    assert drafted(desk) > 0
    desk.answer("one more", max_tokens=20)
    assert small.used <= len("one more") + 20 + 6


def test_a_long_prompt_is_read_over_several_steps() -> None:
    small = ScriptedRunner(cells=8192, batch_rows=64)
    desk = guided(small, ScriptedRunner(batch_rows=256))
    prompt = "long " * 60
    plain = Desk(ScriptedRunner(batch_rows=256))
    assert desk.answer(prompt, max_tokens=30) == plain.answer(prompt, max_tokens=30)
    assert max(sum(len(c.tokens) for c in plan.chunks) for plan in small.plans) <= 64
    assert accepted(desk) > 0


def test_without_cells_for_guesses_there_are_none_for_a_while() -> None:
    small = ScriptedRunner(cells=40)
    desk = guided(small)
    for n in range(3):
        desk.submit(f"some prompt {n}", max_tokens=30)
    desk.run()
    assert all(end.kind == "finished" for end in desk.ends.values())
    plain = Desk()
    assert desk.text["some prompt 1"] == plain.answer("some prompt 1", max_tokens=30)


def test_behind_the_end_of_its_context_it_is_silent() -> None:
    small = ScriptedRunner(cells=8192, context_length=24)
    desk = guided(small)
    assert len(desk.answer("twelve chars", max_tokens=60)) == 60
    assert 0 < drafted(desk) <= 12


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("xyz", min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 9)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([40, 400, 8192]),
    st.integers(1, 4),
)
def test_company_changes_nobodys_text(jobs: list, cells: int, slots: int) -> None:
    quick, plain = guided(ScriptedRunner({"x": "zzz"}, cells=cells, slots=slots)), Desk()
    for desk in (quick, plain):
        for n, (prompt, most, pause) in enumerate(jobs):
            desk.submit(prompt, key=str(n), max_tokens=most, sampling=DRAWN, seed=n)
            desk.step(pause)
        desk.run()
    assert quick.text == plain.text
