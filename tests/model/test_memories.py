"""Models whose memory cannot be cut: recognised, and right alone, in company and from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.requests import Sampling
from tests.model.tiny_gguf import BYTE_OFFSET, write_gemma3, write_mamba
from tests.workers.engine.desk import Desk
from workers.engine.runner import LlamaRunner
from workers.engine.weights import Weights, open_weights

HOT = Sampling(temperature=1.0)
QUESTION = "a question that is longer than the window of sixteen tokens"


def tokens(text: str) -> tuple[int, ...]:
    """The tiny vocabulary's."""
    return tuple(BYTE_OFFSET + byte for byte in text.encode())


@pytest.fixture(params=[write_mamba, write_gemma3], scope="module")
def weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Weights]:
    """A recurrent model, then one with a sliding window."""
    write: Callable[[Path], Path] = request.param
    with open_weights(write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")) as loaded:
        yield loaded


@pytest.fixture
def desk(weights: Weights) -> Iterator[Desk]:
    """A fresh context each."""
    with LlamaRunner.share(weights, slots=4, cells=1024, threads=1) as runner:
        yield Desk(runner, prefill_budget=20)


def alone(weights: Weights, prompt: tuple[int, ...], count: int) -> list[int]:
    """What it says in a context of its own."""
    with LlamaRunner.share(weights, slots=1, cells=512, threads=1) as runner:
        desk = Desk(runner)
        desk.submit(prompt, key="alone", max_tokens=count, ignore_eos=True)
        desk.run()
        return desk.tokens["alone"][0]


def test_it_is_recognised(weights: Weights) -> None:
    assert not weights.can_cut
    assert weights.generates


def test_right_in_company(weights: Weights, desk: Desk) -> None:
    prompts = [tokens(f"{QUESTION} {n}") for n in range(6)]
    for n, prompt in enumerate(prompts):
        desk.submit(prompt, key=str(n), max_tokens=12, ignore_eos=True)
    desk.run()
    for n, prompt in enumerate(prompts):
        assert desk.tokens[str(n)][0] == alone(weights, prompt, 12)


def test_the_next_turn_uses_the_whole_memory_of_the_last(weights: Weights, desk: Desk) -> None:
    first = tokens(QUESTION)
    desk.submit(first, key="first", max_tokens=20, ignore_eos=True)
    desk.run()
    second = (*first, *desk.tokens["first"][0], *tokens(" and another"))
    desk.submit(second, key="second", max_tokens=12, ignore_eos=True)
    desk.run()
    assert desk.ends["second"].cached_tokens == len(first) + 19
    assert desk.tokens["second"][0] == alone(weights, second, 12)


def test_a_part_of_a_memory_is_not_used(weights: Weights, desk: Desk) -> None:
    desk.submit(tokens(QUESTION), key="first", max_tokens=20, ignore_eos=True)
    desk.run()
    other = tokens(QUESTION + "?")
    desk.submit(other, key="other", max_tokens=12, ignore_eos=True)
    desk.run()
    assert desk.ends["other"].cached_tokens == 0
    assert desk.tokens["other"][0] == alone(weights, other, 12)


def test_choices_fork_a_whole_memory(weights: Weights, desk: Desk) -> None:
    fields = {"max_tokens": 12, "sampling": HOT, "seed": 4, "ignore_eos": True}
    desk.submit(tokens(QUESTION), key="job", choices=3, **fields)
    desk.run()
    assert sum(stats.prefill_rows for stats in desk.stats) == len(QUESTION)
    said = [tuple(desk.tokens["job"][choice]) for choice in range(3)]
    assert len(set(said)) == 3
    for cut in (0, 5):
        desk.engine.slots.drop_idle()
        resumed = tuple(ids[:cut] for ids in said)
        desk.submit(tokens(QUESTION), key=f"cut {cut}", choices=3, resumed=resumed, **fields)
        desk.run()
        assert [tuple(desk.tokens[f"cut {cut}"][c]) for c in range(3)] == [i[cut:] for i in said]
