"""A stream cut anywhere goes on as if nothing had happened: text, limits, grammar, randomness."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from shared.events import ChoiceEnd
from shared.requests import Sampling
from tests.fakes import END, ScriptedRunner
from tests.workers.engine.desk import Desk
from workers.engine.doors import End
from workers.engine.plan import Logits

HOT = Sampling(temperature=0.8)
MIROSTAT = Sampling(temperature=0.8, mirostat=2)


class Alternate:
    """A grammar: letters of the alphabet's two halves in turn, at most `most`."""

    def __init__(self, most: int = 99) -> None:
        self.accepted: list[int] = []
        self._most = most

    def apply(self, logits: Logits) -> None:
        """Forbid the other half, and everything that is no letter."""
        low = 97 + 13 * (len(self.accepted) % 2)
        keep = logits[low : low + 13].copy()
        logits[:] = -np.inf
        logits[low : low + 13] = keep

    def accept(self, token: int) -> None:
        """A letter of the right half."""
        low = 97 + 13 * (len(self.accepted) % 2)
        assert low <= token < low + 13, "the grammar was not obeyed"
        self.accepted.append(token)

    @property
    def ended(self) -> bool:
        """After `most` letters."""
        return len(self.accepted) >= self._most


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), HOT, MIROSTAT])
@pytest.mark.parametrize("grammar", [False, True])
def test_resumed_at_every_token_the_text_is_the_same(sampling: Sampling, grammar: bool) -> None:
    fields = {
        "max_tokens": 12,
        "sampling": sampling,
        "seed": 7,
        "mask": (lambda _: Alternate()) if grammar else None,
    }
    whole = Desk()
    text = whole.answer("a prompt", **fields)
    said = tuple(whole.tokens["a prompt"][0])
    assert len(text) == len(said) == 12
    for cut in range(13):
        desk = Desk(prefill_budget=5)
        assert desk.answer("a prompt", resumed=(said[:cut],), **fields) == text[cut:]
        assert desk.ends["a prompt"] == replaced(whole, desk)
        assert desk.tokens["a prompt"][0] == list(said[cut:])


def replaced(whole: Desk, desk: Desk) -> End:
    """The undisturbed end with the other's timings and cache, which may differ."""
    end = desk.ends["a prompt"]
    return msgspec.structs.replace(
        whole.ends["a prompt"],
        prefill_ms=end.prefill_ms,
        decode_ms=end.decode_ms,
        cached_tokens=end.cached_tokens,
    )


def test_a_stop_string_split_by_the_cut_is_found() -> None:
    for cut in range(8):
        desk = Desk(ScriptedRunner({"hi": "one END two"}))
        said = tuple(b"one END"[:cut])
        text = desk.answer("hi", resumed=(said,), max_tokens=50, stop="END")
        shown = b"one "[: min(cut, 4)].decode()
        assert shown + text == "one "
        assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop", stop="END"),)


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ((*b"hello", END), ChoiceEnd(reason="stop")),
        (tuple(b"hello wo"), ChoiceEnd(reason="length")),
        (tuple(b"hell#"), ChoiceEnd(reason="stop", stop="#")),
    ],
)
def test_a_stream_that_was_over_ends_without_a_word(said: tuple[int, ...], end: ChoiceEnd) -> None:
    desk = Desk()
    assert desk.answer("hi", resumed=(said,), max_tokens=8, stop="#") == ""
    assert desk.ends["hi"].choices == (end,)
    assert desk.runner.computed == 0
    assert desk.ends["hi"].completion_tokens == len(said)


def test_mirostat_hears_an_end_where_it_was() -> None:
    desk = Desk()
    for key, said in (("length", b"hello wo"), ("stop", b"hell#")):
        resumed = (tuple(said),)
        desk.submit("hi", key=key, resumed=resumed, max_tokens=8, stop="#", sampling=MIROSTAT)
        desk.run()
        assert desk.ends[key].kind == "finished"
        assert desk.ends[key].choices[0].reason == key
        assert desk.text[key] == ""


def test_a_grammar_that_was_over_ends_without_a_word() -> None:
    desk = Desk()
    said = (tuple(b"ana"),)
    assert desk.answer("hi", resumed=said, mask=lambda _: Alternate(3)) == ""
    assert desk.ends["hi"].choices == (ChoiceEnd(reason="stop"),)


def test_resumed_tokens_use_cached_prefixes_too() -> None:
    desk = Desk()
    desk.answer("a prompt", max_tokens=10)
    said = tuple(desk.tokens["a prompt"][0])
    computed = desk.runner.computed
    desk.answer("a prompt", key="again", max_tokens=10, resumed=(said[:8],))
    assert desk.runner.computed - computed == 2


def test_mirostat_sees_the_logits_of_resumed_tokens_again() -> None:
    desk = Desk()
    desk.answer("a prompt", max_tokens=10, sampling=MIROSTAT)
    said = tuple(desk.tokens["a prompt"][0])
    desk.answer("a prompt", key="again", max_tokens=10, resumed=(said[:8],), sampling=MIROSTAT)
    assert desk.runner.plans[-2].chunks[0].outputs == 9
    assert desk.tokens["again"][0] == list(said[8:])
