"""Guesses ahead: the text is the same with and without, rows are spent only where they pay."""

from __future__ import annotations

from typing import Any

import pytest

from shared.requests import Sampling
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from tests.workers.engine.drafters import Free, Knowing, Wrong
from workers.engine.lookup import PromptLookup
from workers.engine.plan import Cut
from workers.engine.prices import NEVER, Price, Prices
from workers.engine.sequence import Sequence
from workers.engine.speculation import Speculation, agreed

REPEATS = {"say it again: ": "one two one two one two one two one two"}
PROMPT = "say it again: "


def guessing(runner: ScriptedRunner | None = None, drafter: Any = None, most: int = 8) -> Desk:
    speculation = Speculation(drafter, most=most, prices=Free())
    return Desk(runner or ScriptedRunner(REPEATS), speculation=speculation)


def sequence(text: str) -> Sequence:
    return Sequence(tuple(text.encode()), (), choice=0, order=1, lane="interactive")


def drafted(desk: Desk) -> int:
    return sum(stats.draft_tokens for stats in desk.stats)


def test_a_text_that_repeats_itself_takes_fewer_steps() -> None:
    plain, quick = Desk(ScriptedRunner(REPEATS)), guessing()
    assert quick.answer(PROMPT, max_tokens=60) == plain.answer(PROMPT, max_tokens=60)
    assert len(quick.runner.plans) < 0.6 * len(plain.runner.plans)
    end = quick.ends[PROMPT]
    assert end.draft_tokens == drafted(quick) > end.accepted_tokens > 20
    assert end.accepted_tokens == sum(stats.accepted_tokens for stats in quick.stats)
    assert end.completion_tokens == plain.ends[PROMPT].completion_tokens


@pytest.mark.parametrize("drafter", [Knowing(), Wrong()])
@pytest.mark.parametrize("mirostat", [0, 2])
def test_chance_falls_as_it_would_have(drafter: Any, mirostat: int) -> None:
    sampling = Sampling(temperature=1, mirostat=mirostat)
    plain, quick = Desk(), guessing(ScriptedRunner(), drafter)
    fields = {"sampling": sampling, "seed": 7, "choices": 3, "max_tokens": 60}
    for desk in (plain, quick):
        desk.submit("dice dice dice", key="dice", **fields)
        desk.run()
    assert quick.tokens["dice"] == plain.tokens["dice"]
    assert drafted(quick) > 0


def test_wrong_guesses_leave_nothing_in_the_memory() -> None:
    desk = guessing(drafter=Wrong())
    desk.answer(PROMPT, max_tokens=20)
    desk.step()
    assert drafted(desk) > 50
    assert desk.ends[PROMPT].accepted_tokens == 0
    assert desk.runner.used == desk.engine.slots.used


def test_where_the_order_of_cells_counts_drafts_are_buried_until_somebody_needs_the_room() -> None:
    runner = ScriptedRunner(REPEATS, cells=200, exact=True)
    desk = guessing(runner, Wrong())
    desk.submit(PROMPT, max_tokens=20)
    desk.submit("other", max_tokens=20)
    desk.step(8)
    assert desk.engine.slots.used == runner.used > len(PROMPT) + len("other") + 14 + 50
    desk.submit("x" * 100, key="long", max_tokens=2)
    desk.run()
    assert desk.ends["long"].kind == desk.ends[PROMPT].kind == "finished"
    assert desk.text[PROMPT] == REPEATS[PROMPT][:20]
    desk.step()
    assert desk.engine.slots.used == runner.used <= 34 + 25 + 102


def test_nothing_is_guessed_behind_the_last_token() -> None:
    desk = guessing()
    desk.answer(PROMPT, max_tokens=12)
    assert len(desk.tokens[PROMPT][0]) == 12
    computed = desk.runner.computed
    assert computed <= len(PROMPT) + 11 + drafted(desk) - desk.ends[PROMPT].accepted_tokens


def test_an_end_among_the_guesses_ends_the_text() -> None:
    text = "ab ab ab ab ab ab."
    desk = guessing(ScriptedRunner({"go: ": text}))
    assert desk.answer("go: ", max_tokens=60, stop=".") == text[:-1]
    assert desk.ends["go: "].choices[0].stop == "."
    again = guessing(ScriptedRunner({"go: ": text}))
    assert again.answer("go: ", max_tokens=60) == text


def test_a_cached_answer_goes_on_where_it_was_right() -> None:
    desk = guessing()
    first = desk.answer(PROMPT, max_tokens=25)
    longer = PROMPT + first
    assert desk.answer(longer, max_tokens=10) == REPEATS[PROMPT][25:35]
    assert desk.ends[longer].cached_tokens >= len(longer) - 1


def test_nobody_gives_way_to_a_guess() -> None:
    desk = guessing(ScriptedRunner(REPEATS, cells=len(PROMPT) + 42))
    first, second = "say it again: ", "another one"
    desk.submit(second, max_tokens=4)
    desk.run()
    desk.answer(first, max_tokens=39)
    assert desk.text[first] == REPEATS[PROMPT]
    assert desk.ends[first].kind == "finished"


def test_a_step_with_a_prompt_has_no_drafts() -> None:
    desk = guessing()
    desk.submit(PROMPT, max_tokens=30)
    desk.step(12)
    before = drafted(desk)
    assert before
    desk.submit("x" * 300, key="long")
    desk.step(2)
    assert desk.stats[-1].prefill_rows
    assert drafted(desk) == before
    desk.run()
    assert desk.text[PROMPT] == REPEATS[PROMPT][:30]


def test_a_memory_that_cannot_be_cut_gets_no_drafts() -> None:
    desk = guessing(ScriptedRunner(REPEATS, can_cut=False))
    assert desk.answer(PROMPT, max_tokens=60) == REPEATS[PROMPT]
    assert drafted(desk) == 0


def test_a_grammar_that_breaks_among_drafts_ends_its_own_job_only() -> None:
    class Breaking:
        ended = False

        def __init__(self) -> None:
            self.heard = 0

        def apply(self, logits: Any) -> None:
            assert self.heard < 20, "this grammar broke"

        def accept(self, token: int) -> None:
            self.heard += 1

    desk = guessing()
    desk.submit(PROMPT, key="broken", max_tokens=60, mask=lambda _: Breaking())
    desk.submit(PROMPT, key="whole", max_tokens=60)
    desk.run()
    desk.step()
    assert desk.ends["broken"].kind == "failed"
    assert desk.text["whole"] == REPEATS[PROMPT]
    assert desk.runner.used == desk.engine.slots.used


def test_rows_that_cost_more_than_they_give_are_not_spent() -> None:
    class Dear(Free):
        price = Price(row=1.5)

    desk = Desk(ScriptedRunner(REPEATS), speculation=Speculation(most=8, prices=Dear()))
    assert desk.answer(PROMPT, max_tokens=60) == REPEATS[PROMPT]
    assert drafted(desk) == 0


def test_what_costs_more_for_being_there_at_all_is_not_spent_on_a_few() -> None:
    class Fixed(Free):
        price = Price(row=0.0, fixed=3.0)

    speculation = Speculation(Wrong(), most=8, prices=Fixed())
    assert speculation.propose({sequence("abc"): 2}, room=50) == {}
    assert sum(
        map(len, speculation.propose({sequence("b" * n): 8 for n in (3, 4)}, room=50).values())
    )


def test_the_price_of_a_row_is_measured() -> None:
    prices = Prices()
    assert prices.of(4) == NEVER
    prices.observe(4, 0, 40)
    assert prices.of(4) == Price()
    for drafts in (2, 4, 8) * 13:
        prices.observe(4, drafts, 40 + 10 + 3 * drafts)
    assert prices.of(4).row == pytest.approx(0.3)
    assert prices.of(4).fixed == pytest.approx(1.0)
    for _ in range(25):
        prices.observe(4, 4, 62)
    assert prices.of(4) == NEVER
    prices.observe(4, 0, 40)
    assert prices.of(4) != NEVER
    for _ in range(64):
        prices.declined(4)
    assert prices.of(4) == Price()


@pytest.mark.parametrize("points", [[(4, 20)] * 9, [(4, 20), (8, 41), (2, 10), (6, 30)]])
def test_points_that_tell_no_fixed_part_have_none(points: list[tuple[int, int]]) -> None:
    prices = Prices()
    prices.observe(1, 0, 10)
    for drafts, more_ms in points:
        prices.observe(1, drafts, 10 + more_ms)
    assert prices.of(1).row == pytest.approx(0.5, rel=0.05)
    assert prices.of(1).fixed == 0


def test_a_sequence_that_is_guessed_wrong_gets_fewer_rows() -> None:
    class Half(Free):
        price = Price(row=0.5)

    speculation = Speculation(Wrong(), most=8, prices=Half())
    one, spent = sequence("abc"), []
    for _ in range(12):
        spent.append(sum(map(len, speculation.propose({one: 50}, room=50).values())))
        one.append(97)
    assert spent[0] > 0
    assert spent[-1] == 0


def test_guesses_share_the_room() -> None:
    speculation = Speculation(Wrong(), most=8, prices=Free())
    many = {sequence("abc"): 50 for _ in range(4)}
    drafts = speculation.propose(many, room=12)
    assert [len(draft) for draft in drafts.values()] == [3, 3, 3, 3]
    assert speculation.propose(many, room=0) == {}


@pytest.mark.parametrize(
    ("text", "most", "guess"),
    [
        ("the cat sat. the cat", 4, " sat"),
        ("abababab", 5, "ababa"),
        ("nothing here", 4, ""),
        ("ab", 4, ""),
        ("xyz, xyz", 9, ", xyz, xy"),
    ],
)
def test_lookup(text: str, most: int, guess: str) -> None:
    one = sequence(text)
    assert bytes(PromptLookup().draft({one: most})[one]).decode() == guess


def test_lookup_reads_on() -> None:
    lookup, one = PromptLookup(), sequence("red green ")
    assert lookup.draft({one: 3}) == {one: ()}
    for letter in b"red":
        one.append(letter)
    assert bytes(lookup.draft({one: 6})[one]) == b" green"
    lookup.forget(one)
    assert bytes(lookup.draft({one: 6})[one]) == b" green"


def test_lookup_never_guesses_an_image() -> None:
    image = Sequence((97, 98, 99, -7, -7, 97, 98), (), choice=0, order=1, lane="interactive")
    assert PromptLookup().draft({image: 5}) == {image: (99,)}


def test_agreed() -> None:
    assert agreed([1, 2, 3], [1, 2, 4]) == 2
    assert agreed([], [1]) == agreed([1], []) == 0


def test_edits_of_drafts_are_cuts_of_their_own_slot() -> None:
    desk = guessing(drafter=Wrong())
    desk.answer(PROMPT, max_tokens=6)
    cuts = [edit for plan in desk.runner.plans for edit in plan.edits if isinstance(edit, Cut)]
    assert {cut.slot for cut in cuts} == {desk.runner.plans[0].chunks[0].slot}
    assert [cut.keep for cut in cuts] == [len(PROMPT) + n for n in range(1, len(cuts) + 1)]
