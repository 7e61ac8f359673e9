"""Batching, budgets, ends and order of the engine, without a model."""

from __future__ import annotations

import pytest

from shared.events import ChoiceEnd
from tests.fakes import END, PlainText, ScriptedRunner
from tests.workers.engine.desk import Desk


def test_an_answer_comes_token_by_token_and_ends_where_the_model_ends() -> None:
    desk = Desk(ScriptedRunner({"hi": "hello"}))
    assert desk.answer("hi", max_tokens=50) == "hello"
    end = desk.ends["hi"]
    assert end.kind == "finished"
    assert end.choices == (ChoiceEnd(reason="stop"),)
    assert (end.prompt_tokens, end.completion_tokens) == (2, 6)
    assert desk.tokens["hi"][0] == [*b"hello", END]
    assert desk.admitted == ["hi"]


def test_max_tokens_ends_with_length() -> None:
    desk = Desk(ScriptedRunner({"hi": "hello"}))
    assert desk.answer("hi", max_tokens=3) == "hel"
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="length"),)


def test_a_full_context_ends_with_length() -> None:
    desk = Desk(ScriptedRunner(context_length=16))
    assert len(desk.answer("a" * 10, max_tokens=999)) == 6
    assert desk.ends["a" * 10].choices == (ChoiceEnd(reason="length"),)


def test_the_text_ends_the_sequence_at_once() -> None:
    desk = Desk(ScriptedRunner({"hi": "one END two"}))
    assert desk.answer("hi", max_tokens=50, stop="END") == "one "
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop", stop="END"),)
    assert desk.ends["hi"].completion_tokens == len("one END")


def test_text_held_back_is_flushed_at_the_end() -> None:
    desk = Desk(ScriptedRunner({"hi": "one EN"}))
    assert desk.answer("hi", max_tokens=50, stop="END") == "one EN"


def test_sequences_decode_in_one_step() -> None:
    desk = Desk(ScriptedRunner({"a": "x" * 9, "b": "y" * 9, "c": "z" * 9}))
    for prompt in "abc":
        desk.submit(prompt, max_tokens=5)
    desk.run()
    assert [desk.text[key] for key in "abc"] == ["x" * 5, "y" * 5, "z" * 5]
    assert [stats.decode_rows for stats in desk.stats] == [0, 3, 3, 3, 3]
    assert desk.stats[0].prefill_rows == 3


def test_text_does_not_depend_on_company() -> None:
    alone = Desk().answer("some prompt", max_tokens=20)
    desk = Desk()
    for n in range(6):
        desk.submit(f"prompt {n}", max_tokens=7 + n)
    assert desk.answer("some prompt", max_tokens=20) == alone


def test_a_long_prompt_takes_its_budget_and_does_not_stall_others() -> None:
    desk = Desk(prefill_budget=16)
    desk.submit("a", max_tokens=30)
    desk.step(2)
    desk.submit("b" * 100, max_tokens=2)
    desk.step(7)
    rows = [[len(chunk.tokens) for chunk in plan.chunks] for plan in desk.runner.plans[2:9]]
    assert rows == [[1, 16]] * 6 + [[1, 4]]
    assert len(desk.tokens["a"][0]) == 9


def test_logits_are_asked_only_where_a_token_is_drawn() -> None:
    desk = Desk(prefill_budget=4)
    desk.answer("abcdefghij", max_tokens=3)
    assert [plan.chunks[0].outputs for plan in desk.runner.plans] == [0, 0, 1, 1, 1]


def test_interactive_goes_before_batch() -> None:
    desk = Desk(ScriptedRunner(slots=1))
    desk.submit("first", max_tokens=2)
    desk.step()
    desk.submit("batch", lane="batch")
    desk.submit("person")
    desk.run()
    assert desk.admitted == ["first", "person", "batch"]


def test_jobs_of_one_lane_start_in_the_order_they_came() -> None:
    desk = Desk(ScriptedRunner(slots=2))
    for key in "abcdef":
        desk.submit(key, max_tokens=3)
    desk.run()
    assert desk.admitted == list("abcdef")


def test_never_more_sequences_than_slots() -> None:
    desk = Desk(ScriptedRunner(slots=3))
    for n in range(9):
        desk.submit(f"prompt {n}", max_tokens=4)
    desk.run()
    assert max(stats.running for stats in desk.stats) == 3
    assert len(desk.ends) == 9


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_cancel_frees_the_slot_within_one_step(steps: int) -> None:
    desk = Desk(ScriptedRunner(slots=1), prefill_budget=4)
    desk.submit("a prompt of some steps")
    desk.submit("waits", max_tokens=2)
    desk.step(steps)
    desk.engine.cancel("a prompt of some steps")
    desk.step()
    assert desk.ends["a prompt of some steps"].kind == "cancelled"
    assert "waits" in desk.admitted
    desk.run()
    assert desk.ends["waits"].kind == "finished"
    assert desk.runner.open_samplers == 0


def test_cancel_of_a_waiting_or_unknown_job() -> None:
    desk = Desk(ScriptedRunner(slots=1))
    desk.submit("runs", max_tokens=3)
    desk.submit("waits")
    desk.step()
    desk.engine.cancel("waits")
    desk.engine.cancel("nobody")
    desk.run()
    assert desk.ends["waits"].kind == "cancelled"
    assert desk.ends["runs"].kind == "finished"
    assert desk.admitted == ["runs"]


def test_a_key_may_come_again_after_its_cancel_in_the_same_step() -> None:
    desk = Desk(ScriptedRunner({"hi": "hello"}))
    desk.submit("hi", key="job", max_tokens=2)
    desk.step()
    desk.engine.cancel("job")
    desk.step()
    assert desk.ends.pop("job").kind == "cancelled"
    desk.text.clear()
    assert desk.answer("hi", key="job", max_tokens=20) == "hello"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "0 tokens"),
        ({"prompt": "x" * 2000}, "2000 tokens"),
        ({"prompt": "x", "resumed": ((9999,),)}, "vocabulary"),
        ({"prompt": "x", "resumed": ((1,), (1,))}, "choices"),
    ],
)
def test_an_impossible_request_fails_alone(fields: dict[str, object], words: str) -> None:
    desk = Desk()
    desk.submit("fine", max_tokens=2)
    prompt = str(fields.pop("prompt"))
    desk.submit(prompt, key="bad", **fields)
    desk.run()
    assert desk.ends["bad"].kind == "failed"
    assert words in desk.ends["bad"].error
    assert desk.ends["fine"].kind == "finished"


def test_a_failing_text_ends_its_job_only() -> None:
    class Bad(PlainText):
        def feed(self, piece: bytes, logprob: object = None) -> tuple[()]:
            raise ValueError("no such family")

    desk = Desk()
    desk.submit("good", max_tokens=4)
    desk.submit("bad", pipeline=lambda _: Bad())
    desk.run()
    assert desk.ends["bad"].kind == "failed"
    assert "no such family" in desk.ends["bad"].error
    assert len(desk.text["good"]) == 4
    assert desk.runner.open_samplers == 0


def test_a_failing_grammar_ends_its_job_only() -> None:
    def no_grammar(_: int) -> None:
        raise ValueError("no such grammar")

    desk = Desk()
    desk.submit("good", max_tokens=4)
    desk.submit("bad", mask=no_grammar)
    desk.run()
    assert desk.ends["bad"].kind == "failed"
    assert desk.ends["good"].kind == "finished"


def test_one_report_a_step_and_none_when_there_was_nothing_to_compute() -> None:
    desk = Desk(prefill_budget=4)
    desk.submit("twelve bytes", max_tokens=1)
    desk.step(5)
    assert [len(report.outputs) for report in desk.reports] == [1, 0, 1]
    assert [stats.prefill_rows for stats in desk.stats] == [4, 4, 4]
    assert desk.reports[0].outputs[0].admitted
    assert desk.reports[2].outputs[0].end is not None


def test_a_short_prompt_overtakes_a_long_one_and_does_not_stop_it() -> None:
    desk = Desk(ScriptedRunner(batch_rows=128), prefill_budget=32)
    desk.submit("l" * 400, key="long", max_tokens=1)
    desk.step()
    desk.submit("short", key="short", max_tokens=1)
    desk.step()
    assert "short" in desk.ends
    assert sum(len(chunk.tokens) for chunk in desk.runner.plans[1].chunks) == 32
    for n in range(40):
        desk.submit(f"{n} is one of many questions", max_tokens=1)
    desk.step(23)
    assert "long" in desk.ends, "the long one was starved"
    desk.run()
    assert len(desk.ends) == 42


def test_a_step_that_has_nothing_else_takes_a_prompt_whatever_its_budget() -> None:
    desk = Desk()
    desk.submit("hello")
    desk.engine._take_commands()
    schedule = desk.engine._scheduler.schedule(prefill_budget=0)
    assert (schedule.prefill_rows, schedule.decode_rows) == (1, 0)
