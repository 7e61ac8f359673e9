"""What happens when cells or slots run out: who gives way, and that nothing loops."""

from __future__ import annotations

from shared.events import ChoiceEnd
from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk


def small(cells: int = 160, **options: int) -> Desk:
    """Few cells, no room for two long answers."""
    return Desk(ScriptedRunner(cells=cells, context_length=cells, **options))


def test_the_youngest_gives_way_and_its_tokens_are_enough_to_go_on() -> None:
    desk = small()
    desk.submit("old " * 5, key="old", max_tokens=110)
    desk.submit("young", key="young", max_tokens=110)
    desk.run()
    assert desk.ends["old"].kind == "finished"
    assert desk.ends["young"].kind == "preempted"
    assert sum(stats.preempted for stats in desk.stats) == 1
    said = tuple(desk.tokens["young"][0])
    assert 20 < len(said) < 110
    later = Desk()
    rest = later.answer("young", max_tokens=110, resumed=(said,))
    assert bytes(said).decode() + rest == Desk().answer("young", max_tokens=110)
    assert later.ends["young"].completion_tokens == 110


def test_batch_gives_way_before_interactive_even_if_it_is_older() -> None:
    desk = small()
    desk.submit("batch" * 4, key="batch", lane="batch", max_tokens=120)
    desk.step(2)
    desk.submit("person", max_tokens=120)
    desk.run()
    assert desk.ends["batch"].kind == "preempted"
    assert desk.ends["person"].kind == "finished"


def test_a_person_takes_the_slot_of_the_youngest_batch_job() -> None:
    desk = Desk(ScriptedRunner(slots=2))
    for n in range(2):
        desk.submit(f"batch {n}", lane="batch", max_tokens=50)
    desk.step(3)
    desk.submit("person", max_tokens=2)
    desk.step()
    assert desk.ends["batch 1"].kind == "preempted"
    assert desk.admitted[-1] == "person"
    desk.run()
    assert desk.ends["batch 0"].kind == "finished"


def test_a_batch_job_never_takes_a_slot_from_anybody() -> None:
    desk = Desk(ScriptedRunner(slots=1))
    desk.submit("person", max_tokens=5)
    desk.step()
    desk.submit("batch", lane="batch", max_tokens=1)
    desk.run()
    assert desk.admitted == ["person", "batch"]
    assert desk.ends["person"].kind == "finished"


def test_a_prompt_waits_until_there_are_cells_for_all_of_it() -> None:
    desk = small()
    desk.submit("a" * 80, max_tokens=3)
    desk.submit("b" * 80, max_tokens=3)
    desk.run()
    assert {end.kind for end in desk.ends.values()} == {"finished"}
    assert max(stats.running for stats in desk.stats) == 1


def test_alone_an_answer_ends_with_the_last_cell() -> None:
    desk = Desk(ScriptedRunner(cells=64, context_length=640))
    desk.submit("a" * 20, max_tokens=600)
    desk.run()
    assert desk.ends["a" * 20].choices == (ChoiceEnd(reason="length"),)
    assert desk.ends["a" * 20].completion_tokens == 64 - 20 + 1


def test_alone_a_prompt_that_cannot_fit_fails() -> None:
    desk = Desk(ScriptedRunner(cells=64, context_length=640))
    desk.submit("a" * 100, key="big")
    desk.submit("b", key="after", max_tokens=2)
    desk.run()
    assert desk.ends["big"].kind == "failed"
    assert "cells" in desk.ends["big"].error
    assert desk.ends["after"].kind == "finished"


def test_no_cells_from_the_device_drops_the_cache_first() -> None:
    desk = Desk()
    desk.answer("an old prompt", max_tokens=2)
    desk.submit("a new one", max_tokens=3)
    desk.runner.refuse = 1
    desk.run()
    assert desk.ends["a new one"].kind == "finished"
    assert sum(stats.preempted for stats in desk.stats) == 0


def test_no_cells_from_the_device_then_preempts_the_youngest() -> None:
    desk = Desk()
    desk.submit("one", max_tokens=5)
    desk.submit("two", max_tokens=5)
    desk.step(2)
    desk.runner.refuse = 1
    desk.run()
    assert desk.ends["one"].kind == "finished"
    assert desk.ends["two"].kind == "preempted"
    assert desk.text["one"] == Desk().answer("one", max_tokens=5)


def test_a_device_that_never_has_cells_does_not_loop() -> None:
    desk = Desk()
    desk.submit("one", max_tokens=5)
    desk.submit("two", max_tokens=5)
    desk.runner.refuse = 10**6
    desk.run(most=10)
    assert desk.ends["two"].kind == "preempted"
    assert desk.ends["one"].kind == "failed"


def test_a_device_that_has_no_more_cells_ends_an_answer_alone() -> None:
    desk = Desk()
    desk.submit("one", max_tokens=50)
    desk.step(4)
    desk.runner.refuse = 10**6
    desk.run(most=10)
    assert desk.ends["one"].choices == (ChoiceEnd(reason="length"),)
    assert len(desk.text["one"]) == 4
