"""The embedder's thread: whose texts share a decode, and who hears what."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from workers.engine.embedder import ENOUGH_ROWS, Embedder, Vector
from workers.engine.plan import EngineError

WAIT_S = 10


class Lengths:
    """An encoder whose vectors are the texts' lengths; it goes on when it may."""

    rows = 2 * ENOUGH_ROWS
    sequences = 8

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def encode(self, sequences: Sequence[tuple[int, ...]]) -> list[Vector]:
        lengths = [len(tokens) for tokens in sequences]
        self.batches.append(lengths)
        if not self.gate.get(timeout=WAIT_S):
            raise EngineError("no more")
        return [np.array([length], np.float32) for length in lengths]


@pytest.fixture
def encoder() -> Lengths:
    return Lengths()


@pytest.fixture
def embedder(encoder: Lengths) -> Iterator[Embedder]:
    opened = Embedder(encoder)
    yield opened
    for _ in range(9):
        encoder.gate.put(True)
    opened.close()


Answers = queue.SimpleQueue[list[Vector] | EngineError]


def texts(*lengths: int) -> list[tuple[int, ...]]:
    return [(1,) * length for length in lengths]


def test_callers_share_decodes_and_hear_their_own(embedder: Embedder, encoder: Lengths) -> None:
    first, second, third = Answers(), Answers(), Answers()
    embedder.submit(texts(1), first.put)
    embedder.submit(texts(2, 3), second.put)
    embedder.submit(texts(4), third.put)
    for _ in range(4):
        encoder.gate.put(True)
    heard = [[int(v[0]) for v in answers.get(timeout=WAIT_S)] for answers in (first, second, third)]
    assert heard == [[1], [2, 3], [4]]
    assert [one for batch in encoder.batches for one in batch] == [1, 2, 3, 4]
    assert len(encoder.batches) < 4


def test_a_decode_holds_enough_or_one_long_text(embedder: Embedder, encoder: Lengths) -> None:
    answers = Answers()
    long, half = ENOUGH_ROWS + 9, ENOUGH_ROWS // 2
    embedder.submit(texts(long, half, half, half), answers.put)
    for _ in range(3):
        encoder.gate.put(True)
    answers.get(timeout=WAIT_S)
    assert encoder.batches == [[long], [half, half], [half]]


def test_an_error_is_heard_once_and_the_next_caller_is_served(
    embedder: Embedder, encoder: Lengths
) -> None:
    answers = Answers()
    embedder.submit(texts(ENOUGH_ROWS, ENOUGH_ROWS), answers.put)
    encoder.gate.put(False)
    assert isinstance(answers.get(timeout=WAIT_S), EngineError)
    embedder.submit(texts(5), answers.put)
    for _ in range(2):
        encoder.gate.put(True)
    heard = answers.get(timeout=WAIT_S)
    assert not isinstance(heard, EngineError)
    assert [int(vector[0]) for vector in heard] == [5]
