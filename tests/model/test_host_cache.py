"""Prefixes that left the cells and come back from host memory: right to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.model.conftest import OpenDesk
from tests.model.tiny_gguf import BYTE_OFFSET, write_gemma3, write_mamba
from tests.workers.engine.desk import Desk
from workers.engine.runner import LlamaRunner
from workers.engine.weights import Weights, open_weights

ENGINE = {"prefix_cache": 300, "host_cache_bytes": 64 << 20}
WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "f16": {"exact": False},
    "quantised": {"cache_type_k": "q8_0", "cache_type_v": "q4_0"},
    "without flash attention": {"flash_attention": "off"},
}


def texts(weights: Weights) -> list[tuple[int, ...]]:
    """Two prompts of 250 tokens."""
    return [
        weights.vocab.tokenize(" ".join(f"{thing} {n} is {7 * n % 13} old." for n in range(40)))[
            :250
        ]
        for thing in ("House", "Tree")
    ]


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_an_answer_behind_a_loaded_prefix_is_what_it_was(
    fresh_desk: OpenDesk, weights: Weights, options: dict[str, Any]
) -> None:
    desk = fresh_desk(slots=2, cells=1024, engine=ENGINE, **options)
    first, other = texts(weights)
    for key, prompt in (("new", first), ("held", first), ("other", other), ("loaded", first)):
        desk.submit(prompt, key=key, max_tokens=12, ignore_eos=True)
        desk.run()
    cached = [desk.ends[key].cached_tokens for key in ("new", "held", "other", "loaded")]
    assert cached == [0, 249, 0, 249]
    assert desk.tokens["loaded"][0] == desk.tokens["held"][0]


def test_a_part_of_what_was_saved_is_right(fresh_desk: OpenDesk, weights: Weights) -> None:
    first, other = texts(weights)
    changed = (*first[:200], *other[:20])
    answers = []
    for prompts in ([first, other, changed], [changed]):
        desk = fresh_desk(slots=2, cells=1024, engine=ENGINE)
        for n, prompt in enumerate(prompts):
            desk.submit(prompt, key=str(n), max_tokens=12, ignore_eos=True)
            desk.run()
        answers.append(desk.tokens[str(n)][0])
    assert desk.ends[str(n)].cached_tokens == 0
    assert answers[0] == answers[1]


@pytest.mark.parametrize("write", [write_mamba, write_gemma3])
def test_memory_that_cannot_be_cut_comes_back_whole(write: Any, tmp_path: Path) -> None:
    first, other = (
        tuple(BYTE_OFFSET + byte for byte in text.encode()) for text in ("a story " * 12, "b" * 90)
    )
    with (
        open_weights(write(tmp_path / "tiny.gguf")) as weights,
        LlamaRunner.share(weights, slots=4, cells=1024, threads=1) as runner,
    ):
        desk = Desk(runner, prefix_cache=150, host_cache_bytes=1 << 20)
        for key, prompt in (("first", first), ("other", other)):
            desk.submit(prompt, key=key, max_tokens=20, ignore_eos=True)
            desk.run()
        longer = (*first, *desk.tokens["first"][0])
        desk.submit(longer, key="loaded", max_tokens=12, ignore_eos=True)
        desk.run()
        assert desk.ends["loaded"].cached_tokens == len(longer) - 1
        with LlamaRunner.share(weights, slots=1, cells=512, threads=1) as fresh:
            alone = Desk(fresh)
            alone.submit(longer, key="alone", max_tokens=12, ignore_eos=True)
            alone.run()
        assert desk.tokens["loaded"][0] == alone.tokens["alone"][0]
