"""Adapters: one set of them a step, in turns, and nothing shared between two sets."""

from __future__ import annotations

from itertools import groupby

import pytest

from shared.errors import RequestError
from shared.requests import Adapter
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from workers.engine.adapters import TURN_STEPS, AdapterSet, Turns, chosen

STYLE: AdapterSet = (("style", 1.0),)
FAINT: AdapterSet = (("style", 0.5),)
KNOWN = ("style", "facts")
COMMON = "".join(chr(97 + n * 7 % 26) for n in range(200))


def alone(prompt: str, adapters: AdapterSet, max_tokens: int = 8) -> str:
    return Desk().answer(prompt, adapters=adapters, max_tokens=max_tokens)


def turns(desk: Desk) -> list[AdapterSet]:
    """The sets of the steps, in order, repetitions left out."""
    return [one for one, _ in groupby(plan.adapters for plan in desk.runner.plans)]


def test_the_fake_says_another_thing_with_each_set() -> None:
    assert len({alone("hello", one) for one in ((), STYLE, FAINT)}) == 3


def test_each_says_in_company_what_it_says_alone() -> None:
    desk = Desk(ScriptedRunner(slots=6))
    sets = [(), STYLE, FAINT, STYLE, (), FAINT]
    for n, adapters in enumerate(sets):
        desk.submit(COMMON, key=str(n), adapters=adapters, max_tokens=20)
        desk.step()
    desk.run()
    for n, adapters in enumerate(sets):
        assert desk.text[str(n)] == alone(COMMON, adapters, 20)


def test_no_set_computes_twice_while_another_waits() -> None:
    desk = Desk()
    for n, adapters in enumerate([STYLE, (), FAINT]):
        desk.submit("hello", key=str(n), adapters=adapters, max_tokens=60)
    desk.run()
    order = turns(desk)
    whole = order[: 3 * (60 // TURN_STEPS)]
    assert set(whole[:3]) == {(), STYLE, FAINT}
    assert whole == whole[:3] * (len(whole) // 3)


def test_a_set_alone_does_not_wait_for_its_turn() -> None:
    desk = Desk()
    desk.submit("hello", adapters=STYLE, max_tokens=30)
    desk.run()
    assert turns(desk) == [STYLE]
    assert len(desk.runner.plans) == 30


def test_sequences_of_one_set_share_its_steps() -> None:
    desk = Desk()
    for n in range(4):
        desk.submit(f"hello {n}", adapters=(FAINT, STYLE)[n % 2], max_tokens=10)
    desk.run()
    assert {stats.decode_rows for stats in desk.stats[-8:-1]} == {2}


def test_a_prefix_is_shared_within_a_set_only() -> None:
    desk = Desk()
    desk.answer(COMMON, adapters=STYLE, max_tokens=1)
    computed = desk.runner.computed
    desk.answer(COMMON + "!", adapters=(), max_tokens=1)
    assert desk.runner.computed - computed == len(COMMON) + 1
    computed = desk.runner.computed
    desk.answer(COMMON + "?", adapters=STYLE, max_tokens=1)
    assert desk.runner.computed - computed == 1


def test_nobody_waits_for_a_prefix_of_another_set() -> None:
    desk = Desk(prefill_budget=32)
    desk.submit(COMMON + "one", key="with", adapters=STYLE, max_tokens=1)
    desk.step()
    desk.submit(COMMON + "two", key="without", max_tokens=1)
    desk.step(TURN_STEPS)
    assert "without" in desk.admitted
    desk.run()
    assert desk.runner.computed == 2 * len(COMMON + "one")


def test_choices_of_a_job_fork_with_its_adapters() -> None:
    desk = Desk()
    desk.submit(COMMON, key="three", choices=3, adapters=STYLE, max_tokens=6)
    desk.run()
    assert desk.runner.computed == len(COMMON) + 3 * 5
    assert {bytes(ids).decode() for ids in desk.tokens["three"].values()} == {
        alone(COMMON, STYLE, 6)
    }


def test_out_of_cells_the_youngest_leaves_whatever_its_set() -> None:
    desk = Desk(ScriptedRunner(cells=160, context_length=160))
    desk.submit("old " * 5, key="old", max_tokens=110)
    desk.submit("young", key="young", adapters=STYLE, max_tokens=110)
    desk.run()
    assert desk.ends["old"].kind == "finished"
    assert desk.ends["young"].kind == "preempted"
    said = tuple(desk.tokens["young"][0])
    rest = Desk().answer("young", adapters=STYLE, max_tokens=110, resumed=(said,))
    assert bytes(said).decode() + rest == alone("young", STYLE, 110)


def test_every_set_gets_its_turn_however_many_new_ones_come() -> None:
    line = Turns()
    new = [(("style", float(n)),) for n in range(2, 100)]
    seen: list[AdapterSet] = []
    for n in range(8 * TURN_STEPS):
        seen.append(line.next([(), STYLE, *new[n : n + 2]]))
    assert seen.count(()) >= TURN_STEPS
    assert seen.count(STYLE) >= TURN_STEPS


def test_what_a_request_may_name() -> None:
    both = (Adapter(name="style", scale=0.5), Adapter(name="facts", scale=2.0))
    assert chosen(both, KNOWN) == (("facts", 2.0), ("style", 0.5))
    assert chosen((Adapter(name=0, scale=0.5),), KNOWN) == FAINT
    assert chosen((Adapter(name="style", scale=0.0),), KNOWN) == ()
    assert chosen((), ()) == ()


@pytest.mark.parametrize(
    ("wanted", "known", "why"),
    [
        (("tone",), KNOWN, r"named 'tone'; it has 'style' \(id 0\), 'facts' \(id 1\)"),
        ((2,), KNOWN, r"with the id 2; it has 'style'"),
        ((-1,), KNOWN, r"with the id -1"),
        (("0",), KNOWN, r"named '0'"),
        ((0,), (), r"it has none"),
        (("style", 0), KNOWN, r"'style' is named twice"),
    ],
)
def test_what_is_not_there_is_refused(
    wanted: tuple[str | int, ...], known: tuple[str, ...], why: str
) -> None:
    with pytest.raises(RequestError, match=why) as caught:
        chosen([Adapter(name=one) for one in wanted], known)
    assert caught.value.param == "lora"
