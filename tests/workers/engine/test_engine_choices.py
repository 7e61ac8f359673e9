"""Several choices of one prompt: one prefill, their own random numbers, one end."""

from __future__ import annotations

import pytest

from shared.events import ChoiceEnd
from shared.requests import Sampling
from tests.fakes import PlainText, ScriptedRunner
from tests.workers.engine.desk import Desk
from tests.workers.engine.test_engine_resume import Alternate

HOT = Sampling(temperature=1.0)
PROMPT = "a prompt of some length"


@pytest.mark.parametrize("can_cut", [True, False])
def test_choices_fork_after_one_prefill(can_cut: bool) -> None:
    desk = Desk(ScriptedRunner(can_cut=can_cut), prefill_budget=7)
    desk.submit(PROMPT, key="job", choices=4, max_tokens=6, sampling=HOT, seed=3)
    desk.run()
    assert desk.runner.computed == len(PROMPT) + 4 * 5
    assert sorted(desk.tokens["job"]) == [0, 1, 2, 3]
    assert len({tuple(ids) for ids in desk.tokens["job"].values()}) > 1
    end = desk.ends["job"]
    assert end.choices == (ChoiceEnd(reason="length"),) * 4
    assert (end.prompt_tokens, end.completion_tokens, end.cached_tokens) == (len(PROMPT), 24, 0)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_more_choices_than_slots_say_the_same(slots: int) -> None:
    fields = {"key": "job", "choices": 5, "max_tokens": 6, "sampling": HOT, "seed": 3}
    roomy, narrow = Desk(ScriptedRunner(slots=8)), Desk(ScriptedRunner(slots=slots))
    for desk in (roomy, narrow):
        desk.submit(PROMPT, **fields)
        desk.run()
    assert narrow.tokens == roomy.tokens
    assert narrow.runner.computed <= len(PROMPT) + 5 * 6


def test_a_choice_alone_is_the_first_of_many() -> None:
    one, many = Desk(), Desk()
    one.submit(PROMPT, key="job", sampling=HOT, seed=9)
    many.submit(PROMPT, key="job", sampling=HOT, seed=9, choices=3)
    one.run()
    many.run()
    assert one.tokens["job"][0] == many.tokens["job"][0]


def test_each_choice_ends_for_itself() -> None:
    desk = Desk(ScriptedRunner({PROMPT: "abcdefgh"}))
    stops = ("c", "", "f")
    desk.submit(PROMPT, key="job", choices=3, pipeline=lambda c: PlainText(stops[c]), max_tokens=6)
    desk.run()
    assert desk.ends["job"].choices == (
        ChoiceEnd(reason="stop", stop="c"),
        ChoiceEnd(reason="length"),
        ChoiceEnd(reason="stop", stop="f"),
    )
    assert [len(ids) for ids in desk.tokens["job"].values()] == [3, 6, 6]


def test_choices_have_grammars_of_their_own() -> None:
    masks: list[Alternate] = []

    def mask(_: int) -> Alternate:
        masks.append(Alternate())
        return masks[-1]

    desk = Desk()
    desk.submit(PROMPT, key="job", choices=3, mask=mask, sampling=HOT, max_tokens=7)
    desk.run()
    assert [one.accepted for one in masks] == list(desk.tokens["job"].values())


def test_resumed_choices_go_on_each_from_its_own_place() -> None:
    fields = {"key": "job", "choices": 3, "max_tokens": 9, "sampling": HOT, "seed": 3}
    whole = Desk()
    whole.submit(PROMPT, **fields)
    whole.run()
    said = whole.tokens["job"]
    for cuts in [(0, 0, 4), (3, 0, 0), (5, 2, 9), (9, 9, 8)]:
        resumed = tuple(tuple(said[choice][:cut]) for choice, cut in enumerate(cuts))
        desk = Desk()
        desk.submit(PROMPT, resumed=resumed, **fields)
        desk.run()
        assert {c: [*resumed[c], *desk.tokens["job"][c]] for c in range(3)} == said
        assert desk.ends["job"].completion_tokens == 27


def test_cancel_ends_all_choices() -> None:
    desk = Desk()
    desk.submit(PROMPT, key="job", choices=4)
    desk.step(3)
    desk.engine.cancel("job")
    desk.step()
    assert desk.ends["job"].kind == "cancelled"
    assert desk.engine.slots.live == 0
    assert desk.runner.open_samplers == 0


def test_a_job_alone_without_cells_for_all_choices_runs_them_in_turn() -> None:
    fields = {"key": "job", "choices": 3, "max_tokens": 80, "sampling": HOT, "seed": 3}
    narrow = Desk(ScriptedRunner(cells=150, context_length=150))
    roomy = Desk()
    for desk in (narrow, roomy):
        desk.submit(PROMPT, **fields)
        desk.run()
    assert narrow.ends["job"].choices == (ChoiceEnd(reason="length"),) * 3
    assert narrow.tokens == roomy.tokens
