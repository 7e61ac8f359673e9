"""How KV cells hold keys and values: each way says what is sensible, and where exact numbers are
promised a row's logits do not depend on what else is computed with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shared.cache_types import CacheType
from tests.model.conftest import OpenDesk
from workers.engine.plan import Chunk, Copy, Cut, Logits, Plan
from workers.engine.runner import LlamaRunner
from workers.engine.weights import BadModel, Weights

Pair = tuple[CacheType, CacheType]
Text = tuple[int, ...]
PAIRS: tuple[Pair, ...] = (
    ("f16", "f16"),
    ("bf16", "bf16"),
    ("q8_0", "q8_0"),
    ("q4_0", "q4_0"),
    ("q8_0", "f16"),
    ("f16", "q4_0"),
)
IDS = ["-".join(pair) for pair in PAIRS]
LONG, HALF, SHORT, ROWS = 520, 260, 40, 6  # the CPU adds up another way from 512 cells on
QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def text(weights: Weights) -> Text:
    """LONG + ROWS tokens."""
    words = " ".join(f"Item {n} costs {7 * n % 13} coins." for n in range(80))
    return weights.vocab.tokenize(words)[: LONG + ROWS]


def rows_of(runner: LlamaRunner, text: Text, *, slots: int, at_once: int) -> list[Logits]:
    """The logits of the last ROWS tokens behind the others, which slot 0 holds: `at_once` of them a
    decode, in company of so many slots in all."""
    mine, others = 1, range(2, 1 + slots)
    edits = (Copy(0, mine, LONG), *(Copy(0, slot, SHORT) for slot in others))
    found: list[Logits] = []
    for start in range(LONG, LONG + ROWS, at_once):
        rows = Chunk(mine, start, text[start : start + at_once], at_once)
        company = (Chunk(one, SHORT + start - LONG, text[:at_once], 0) for one in others)
        runner.decode(Plan(edits, (rows, *company)))
        found += [runner.logits(row).copy() for row in range(at_once)]
        edits = ()
    runner.decode(Plan(edits=tuple(Cut(slot, 0) for slot in (mine, *others))))
    return found


def largest_difference(runner: LlamaRunner, text: Text) -> float:
    """Between rows computed one by one and the same rows in other company."""
    for start in range(0, LONG, HALF):
        runner.decode(Plan(chunks=(Chunk(0, start, text[start : start + HALF], 0),)))
    alone, *company = (
        np.array(rows_of(runner, text, slots=slots, at_once=at_once))
        for slots, at_once in ((1, 1), (1, ROWS), (4, 1), (14, ROWS))
    )
    return max(float(np.abs(alone - other).max()) for other in company)


@pytest.fixture
def runner(request: pytest.FixtureRequest, weights: Weights) -> Iterator[LlamaRunner]:
    """A context as the test's parameters say."""
    with LlamaRunner.share(weights, slots=16, cells=2048, **request.param) as opened:
        yield opened


def exact(pair: Pair) -> dict[str, object]:
    return {"cache_type_k": pair[0], "cache_type_v": pair[1], "exact": True}


@pytest.mark.parametrize("runner", [exact(pair) for pair in PAIRS], indirect=True, ids=IDS)
def test_exact_rows_do_not_depend_on_their_company(runner: LlamaRunner, text: Text) -> None:
    assert largest_difference(runner, text) == 0


@pytest.mark.parametrize("runner", [{}, {"flash_attention": "off"}], indirect=True)
def test_other_rows_do(runner: LlamaRunner, text: Text) -> None:
    assert largest_difference(runner, text) > 0


@pytest.mark.parametrize("pair", PAIRS, ids=IDS)
def test_each_way_says_what_is_sensible(fresh_desk: OpenDesk, weights: Weights, pair: Pair) -> None:
    keys, values = pair
    desk = fresh_desk(cells=512, slots=4, cache_type_k=keys, cache_type_v=values)
    prompt = weights.vocab.tokenize(QUESTION, parse_special=True)
    desk.submit(prompt, key="alone", max_tokens=12)
    desk.run()
    for n in range(3):
        desk.submit(prompt, key=f"company {n}", max_tokens=12)
    desk.run()
    said = desk.tokens["alone"][0]
    assert b"Paris" in b"".join(map(weights.vocab.piece, said))
    assert all(desk.tokens[f"company {n}"][0] == said for n in range(3))


def test_quantised_values_without_flash_attention_are_refused(weights: Weights) -> None:
    wanted = LlamaRunner.share(weights, cache_type_v="q8_0", flash_attention="off")
    with pytest.raises(BadModel, match="q8_0 need flash attention"), wanted:
        pass


@pytest.mark.parametrize(
    ("runner", "tile"),
    [
        ({}, 64),
        ({"exact": True}, 1),
        ({"flash_attention": "off"}, 1),
        ({"cache_type_k": "q8_0"}, 1),
    ],
    indirect=["runner"],
)
def test_only_f16_keys_and_values_go_by_tiles(runner: LlamaRunner, tile: int) -> None:
    assert runner.tile == tile
