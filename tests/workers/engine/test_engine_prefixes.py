"""Shared prefixes: computed once, whoever comes first, and kept until cells are needed."""

from __future__ import annotations

import pytest

from shared.requests import Sampling
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk

COMMON = "".join(chr(97 + n * 7 % 26) for n in range(200))
HOT = Sampling(temperature=0.8)


def test_sixteen_at_once_compute_a_common_prompt_once() -> None:
    desk = Desk(ScriptedRunner(slots=16, batch_rows=128), prefill_budget=64)
    keys = [desk.submit(f"{COMMON} user {n:02}", max_tokens=5) for n in range(16)]
    desk.run()
    tails = 16 * len(" user 00")
    answers = 16 * 4  # the last token of an answer is never computed
    assert len(COMMON) + answers < desk.runner.computed <= len(COMMON) + tails + answers
    assert sum(stats.cached_tokens for stats in desk.stats) >= 15 * len(COMMON)
    for n, key in enumerate(keys):
        assert desk.text[key] == Desk().answer(f"{COMMON} user {n:02}", max_tokens=5)


def test_equal_prompts_share_all_but_the_row_that_speaks() -> None:
    desk = Desk(ScriptedRunner(slots=8, batch_rows=128), prefill_budget=100)
    for n in range(8):
        desk.submit(COMMON, key=f"job {n}", max_tokens=1)
    desk.run()
    assert desk.runner.computed == len(COMMON) + 7
    assert len(set(desk.text.values())) == 1


def test_a_follower_starts_as_soon_as_the_common_part_is_there() -> None:
    desk = Desk(ScriptedRunner(batch_rows=128), prefill_budget=50)
    desk.submit(COMMON + "x" * 400, key="long", max_tokens=1)
    desk.submit(COMMON + "yes", key="short", max_tokens=1)
    desk.run()
    started = next(n for n, r in enumerate(desk.reports) if "short" in {o.key for o in r.outputs})
    assert started < len(desk.reports) - 1, "it waited for the whole prompt of another"
    assert desk.runner.computed == len(COMMON) + 400 + 3


def test_a_follower_goes_on_alone_when_its_leader_leaves() -> None:
    desk = Desk(prefill_budget=32)
    desk.submit(COMMON + "one", key="leader")
    desk.submit(COMMON + "two", key="follower", max_tokens=3)
    desk.step(2)
    desk.engine.cancel("leader")
    desk.run()
    assert desk.text["follower"] == Desk().answer(COMMON + "two", max_tokens=3)
    assert desk.runner.computed == len(COMMON) + 3 + 2


def test_a_short_common_beginning_is_not_waited_for() -> None:
    desk = Desk(prefill_budget=8)
    desk.submit("the same" + "x" * 40, key="one", max_tokens=1)
    desk.submit("the same" + "y" * 4, key="two", max_tokens=1)
    desk.step()
    assert len(desk.engine.slots.take_edits()) == 0
    desk.run()
    assert desk.ends["one"].kind == desk.ends["two"].kind == "finished"


def test_a_person_does_not_wait_for_a_batch_job() -> None:
    desk = Desk(prefill_budget=32)
    desk.submit(COMMON + "batch", key="batch", lane="batch", max_tokens=1)
    desk.step()
    desk.submit(COMMON + "person", key="person", max_tokens=1)
    desk.step(2)
    assert "person" in desk.admitted
    desk.run()


def test_the_next_turn_of_a_conversation_computes_only_what_is_new() -> None:
    desk = Desk(ScriptedRunner({"turn one": "answer"}))
    assert desk.answer("turn one", max_tokens=50) == "answer"
    computed = desk.runner.computed
    desk.answer("turn oneanswer and turn two", max_tokens=1)
    assert desk.runner.computed - computed == len(" and turn two")
    assert desk.ends["turn oneanswer and turn two"].cached_tokens == len("turn oneanswer")


def test_an_answer_does_not_depend_on_the_cache() -> None:
    prompts = [COMMON[: 20 * n] + f"tail {n}" for n in range(1, 9)]
    desk = Desk()
    for prompt in [*prompts, *reversed(prompts)]:
        key = desk.submit(prompt, key=f"{prompt} {len(desk.ends)}", max_tokens=6)
        desk.run()
        assert desk.text[key] == Desk().answer(prompt, max_tokens=6)


def test_old_prefixes_make_way_for_new_prompts() -> None:
    desk = Desk(ScriptedRunner(cells=256, context_length=256))
    for n in range(20):
        desk.answer(f"{n:03}" + chr(97 + n) * 97, max_tokens=2)
    assert all(end.kind == "finished" for end in desk.ends.values())
    assert desk.runner.used <= 256


def test_the_least_recently_used_prefix_goes_first() -> None:
    desk = Desk(ScriptedRunner(cells=250, context_length=250))
    for prompt in ("a" * 90, "b" * 90, "a" * 90 + "!"):
        desk.answer(prompt, max_tokens=1)
    desk.answer("c" * 90, max_tokens=1)
    computed = desk.runner.computed
    desk.answer("a" * 90 + "?", max_tokens=1)
    assert desk.runner.computed - computed == 1


@pytest.mark.parametrize(("cells", "kept"), [(0, 0), (100, 90), (1000, 270)])
def test_idle_prefixes_keep_no_more_cells_than_allowed(cells: int, kept: int) -> None:
    desk = Desk(prefix_cache=cells)
    for letter in "abc":
        desk.answer(letter * 90, max_tokens=1)
    desk.engine.step()
    assert desk.engine.slots.used == desk.runner.used == kept


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), HOT])
def test_memory_that_cannot_be_cut_is_reused_whole_or_not_at_all(sampling: Sampling) -> None:
    desk = Desk(ScriptedRunner({"turn one": "answer"}, can_cut=False, sequence_ids=4))
    desk.answer("turn one", max_tokens=50)
    computed = desk.runner.computed
    desk.answer("turn oneanswer more", max_tokens=1, sampling=sampling)
    assert desk.runner.computed - computed == len(" more")
    computed = desk.runner.computed
    desk.answer("turn oneanswer other", max_tokens=1, sampling=sampling)
    assert desk.runner.computed - computed == len("turn oneanswer other")


def test_memory_that_cannot_be_cut_is_right_in_company() -> None:
    desk = Desk(ScriptedRunner(can_cut=False, sequence_ids=4))
    keys = [desk.submit(COMMON + str(n), max_tokens=4) for n in range(9)]
    desk.run()
    for key in keys:
        assert desk.text[key] == Desk().answer(key, max_tokens=4)
