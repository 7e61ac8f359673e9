"""min_tokens, ignore_eos, grammars and log probabilities, without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from shared.events import ChoiceEnd, Event, Logprob, ReasoningDelta, TextDelta
from tests.fakes import PlainText, ScriptedRunner
from tests.workers.engine.desk import Desk
from tests.workers.engine.test_engine_resume import Alternate
from workers.engine.logprobs import RowLogprobs
from workers.engine.plan import Logits


def test_min_tokens_keeps_the_end_away() -> None:
    desk = Desk(ScriptedRunner({"hi": "ab"}))
    assert desk.answer("hi", min_tokens=5, max_tokens=50).startswith("ab")
    assert desk.ends["hi"].completion_tokens == 6
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop"),)


def test_ignore_eos_goes_on_to_the_limit() -> None:
    desk = Desk(ScriptedRunner({"hi": "ab"}))
    assert len(desk.answer("hi", ignore_eos=True, max_tokens=9)) == 9
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="length"),)


def test_a_grammar_is_obeyed_and_ends_the_text() -> None:
    desk = Desk(ScriptedRunner({"hi": "zzzz"}))
    text = desk.answer("hi", mask=lambda _: Alternate(4), max_tokens=50)
    assert len(text) == 4
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop"),)


def test_a_grammar_that_leaves_only_the_end_beats_ignore_eos() -> None:
    class OnlyEnd(Alternate):
        def apply(self, logits: Logits) -> None:
            logits[:256] = -np.inf

    desk = Desk()
    assert desk.answer("hi", mask=lambda _: OnlyEnd(), ignore_eos=True) == ""
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop"),)
    assert desk.ends["hi"].completion_tokens == 0


class Recorder(PlainText):
    """Keeps every logprob it is fed."""

    def __init__(self, seen: list[Logprob | None]) -> None:
        super().__init__()
        self.seen = seen

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        """Remember it."""
        self.seen.append(logprob)
        return super().feed(piece, logprob)


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_logprobs_come_with_every_token(count: int) -> None:
    seen: list[Logprob | None] = []
    desk = Desk(ScriptedRunner({"hi": "abc"}))
    desk.answer("hi", logprobs=count, pipeline=lambda _: Recorder(seen), max_tokens=3)
    for logprob, letter in zip(seen, "abc", strict=True):
        assert logprob is not None
        assert logprob.chosen.token == letter.encode()
        assert len(logprob.top) == count
        values = [one.logprob for one in logprob.top]
        assert values == sorted(values, reverse=True)
        assert count == 0 or logprob.top[0] == logprob.chosen


def test_logprobs_are_the_models_own_before_any_mask() -> None:
    seen: list[Logprob | None] = []
    fields = {"logprobs": 3, "pipeline": lambda _: Recorder(seen), "max_tokens": 1}
    Desk().answer("hi", **fields)
    Desk().answer("hi", mask=lambda _: Alternate(), choices=2, **fields)
    free, *masked = seen
    assert all(one is not None and free is not None and one.top == free.top for one in masked)


def test_no_logprobs_when_none_are_asked() -> None:
    seen: list[Logprob | None] = []
    Desk().answer("hi", pipeline=lambda _: Recorder(seen))
    assert seen == [None] * 8


def test_row_logprobs_are_a_log_softmax() -> None:
    logits = np.array([1.0, 3.0, 2.0, -np.inf], np.float32)
    logprob = RowLogprobs(logits, 4).of(2, lambda token: bytes([token]))
    total = sum(math.exp(x) for x in (1, 3, 2))
    assert logprob.chosen.logprob == pytest.approx(2 - math.log(total), abs=1e-6)
    assert [one.id for one in logprob.top] == [1, 2, 0, 3]
    assert logprob.top[3].logprob == -math.inf


def test_reasoning_tokens_are_counted_where_their_text_comes_out() -> None:
    class Thinks(PlainText):
        """Four bytes of thought, in pairs, then text."""

        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
            self.count += 1
            if self.count > 4:
                return (TextDelta(text=piece.decode()),)
            return (ReasoningDelta(text="??"),) if self.count % 2 == 0 else ()

    desk = Desk()
    desk.submit("hi", pipeline=lambda _: Thinks(), max_tokens=7)
    desk.run()
    assert desk.ends["hi"].reasoning_tokens == 4
