"""A tiny model that hears: sounds take the same way as images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shared.errors import RequestError
from shared.messages import Audio, Image
from tests.model.sight import Question, Sight
from tests.model.tiny_vision import png
from tests.workers.media.test_sounds import wav

COUNT = 12


def tone(hertz: float, *, seconds: float = 0.5, rate: int = 8000) -> Audio:
    """A sine."""
    at = np.arange(int(seconds * rate)) * (2 * np.pi * hertz / rate)
    return Audio(data=wav((9000 * np.sin(at)).astype(np.int16).tobytes(), rate=rate))


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sight]:
    with Sight.open(tmp_path_factory.mktemp("hearing"), "ultravox") as opened:
        yield opened


def test_the_answer_is_the_librarys_own(hearing: Sight) -> None:
    said = []
    for hertz in (200, 2000):
        question: Question = ("I hear ", tone(hertz), ", and you?")
        desk = hearing.desk()
        hearing.ask(desk, question, key="heard", max_tokens=COUNT)
        desk.run()
        assert desk.tokens["heard"][0] == hearing.reference(question, COUNT)
        said.append(desk.tokens["heard"][0])
    assert said[0] != said[1]


def test_a_longer_sound_is_more_rows(hearing: Sight) -> None:
    lengths = [len(hearing.projector.measure(tone(300, seconds=s))) for s in (0.01, 1, 31, 61)]
    assert lengths[0] <= lengths[1] < lengths[2] < lengths[3]


def test_what_it_does_not_take(hearing: Sight) -> None:
    assert not hearing.projector.takes(Image(data=png(1)))
    with pytest.raises(RequestError, match="WAV"):
        hearing.projector.measure(Audio(data=b"ID3\4 an mp3", format="mp3"))
