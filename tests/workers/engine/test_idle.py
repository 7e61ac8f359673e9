"""What nobody came back to has little room among the cached prefixes; what was of use has more."""

from __future__ import annotations

from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from workers.engine.cells import Cells
from workers.engine.idle import Idle


def on_trial(new_cells: int = 100) -> Desk:
    runner = ScriptedRunner(slots=2, cells=1000)
    runner.new_cells = new_cells
    return Desk(runner)


def cached(desk: Desk, prompt: str, **fields: int) -> int:
    """How much of a prompt was in the cells when it came."""
    desk.answer(prompt, key=f"{prompt} again", **{"max_tokens": 2, **fields})
    return desk.ends[f"{prompt} again"].cached_tokens


def test_answers_nobody_comes_back_to_make_way() -> None:
    desk = on_trial()
    for n in range(8):
        desk.answer(f"{n} " + "x" * 38, max_tokens=2)
    assert desk.engine.slots.used <= 100
    assert cached(desk, "0 " + "x" * 38) == 0


def test_a_conversation_that_goes_on_has_proven_itself() -> None:
    desk = on_trial()
    first = desk.answer("a" * 60, max_tokens=20)
    desk.answer("a" * 60 + first + " and then?", max_tokens=2)
    for n in range(8):
        desk.answer(f"{n} " + "x" * 38, max_tokens=2)
    assert cached(desk, "a" * 60 + first + " and then? yes") >= 90


def test_a_long_beginning_that_two_share_has_proven_itself_a_short_one_has_not() -> None:
    desk = on_trial()
    for common in ("s" * 70, "t" * 40):
        desk.submit(common + " one", max_tokens=2)
        desk.submit(common + " two", max_tokens=2)
        desk.run()
    for n in range(8):
        desk.answer(f"{n} " + "x" * 38, max_tokens=2)
    assert cached(desk, "s" * 70 + " three") >= 70
    assert cached(desk, "t" * 40 + " three") == 0


def test_the_last_one_stays_however_long_it_is() -> None:
    desk = on_trial(new_cells=10)
    desk.answer("x" * 200, max_tokens=2)
    assert desk.engine.slots.used > 200
    desk.answer("y" * 200, max_tokens=2)
    assert 200 < desk.engine.slots.used < 210


def test_cells_of_several_on_trial_count_once() -> None:
    cells = Cells(cells=100, slots=3)
    cells.grow(0, 30)
    cells.share(0, 1, 30)
    cells.grow(1, 5)
    assert cells.only([0]) == 0
    assert cells.only([0, 1]) == 35
    assert cells.only([1]) == 5
    assert cells.only([]) == 0


def test_a_slot_that_was_emptied_begins_anew() -> None:
    cells = Cells(cells=100, slots=2)
    idle = Idle(cells, most=50, most_new=20)
    for slot in (0, 1):
        cells.grow(slot, 25)
        idle.prove(slot)
        idle.add(slot)
    assert idle.excess(50) is None
    assert idle.excess(51) == 0
    idle.drop(0)
    idle.add(0)
    idle.touch(1)
    assert idle.excess(50) == 0
