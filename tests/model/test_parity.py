"""Greedy answers are the library's own: alone, in company, preempted, behind a shared prefix."""

from __future__ import annotations

from collections.abc import Iterator

import llama_cpp
import pytest

from tests.model.conftest import OpenDesk
from tests.model.reference import Reference
from tests.workers.engine.desk import Desk
from tests.workers.real_vocab import MODEL
from workers.engine.weights import Weights

COUNT = 24
WIDER_TIE = 0.8  # logits; the most that was seen between a prefill and a decode
SYSTEM = (
    "<|im_start|>system\nYou are a patient librarian who answers in short, plain sentences. You "
    "know every book in the house, you never guess, and when you do not know you say so kindly."
)
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "Water boils at",
    "1, 2, 3, 5, 8,",
    "Grüße aus Köln! 東京は",
    "<|im_start|>user\nWrite a haiku about rain.<|im_end|>\n<|im_start|>assistant\n",
)


@pytest.fixture(scope="module")
def reference(weights: Weights) -> Iterator[Reference]:
    """Skips with `weights` where there is no model."""
    with Reference.open(MODEL) as opened:
        yield opened


@pytest.fixture(scope="module")
def prompts(weights: Weights) -> list[tuple[int, ...]]:
    """PROMPTS as tokens."""
    return [weights.vocab.tokenize(text, parse_special=True) for text in PROMPTS]


def said(desk: Desk, key: str) -> list[int]:
    """Everything a job's only choice said."""
    return desk.tokens[key][0]


def test_alone(desk: Desk, reference: Reference, prompts: list[tuple[int, ...]]) -> None:
    agreed = 0
    for prompt in prompts:
        desk.answer(prompt, key=str(prompt), max_tokens=COUNT)
        agreed += reference.check(prompt, said(desk, str(prompt)))
    assert agreed > 0.9 * sum(len(said(desk, str(prompt))) for prompt in prompts)


def test_in_company(desk: Desk, reference: Reference, prompts: list[tuple[int, ...]]) -> None:
    for prompt in prompts:
        desk.submit(prompt, key=str(prompt), max_tokens=COUNT)
        desk.step()
    desk.run()
    assert max(stats.decode_rows for stats in desk.stats) == len(prompts)
    for prompt in prompts:
        reference.check(prompt, said(desk, str(prompt)))


def test_behind_a_shared_prefix(desk: Desk, reference: Reference, weights: Weights) -> None:
    system = weights.vocab.tokenize(SYSTEM, parse_special=True)
    tails = [f"\nWho wrote {book}?" for book in ("Hamlet", "Emma", "Dracula", "Ulysses")]
    prompts = [(*system, *weights.vocab.tokenize(tail)) for tail in tails]
    for prompt in prompts:
        desk.submit(prompt, key=str(prompt), max_tokens=12)
    desk.run()
    assert sum(stats.cached_tokens for stats in desk.stats) >= 3 * len(system)
    for prompt in prompts:
        reference.check(prompt, said(desk, str(prompt)))


def test_as_the_default_computes(
    fresh_desk: OpenDesk, weights: Weights, prompts: list[tuple[int, ...]]
) -> None:
    """Without exact numbers a row's logits depend a little on how many rows there are, so near-ties
    are wider; behind one, the two may say something else."""
    desk = fresh_desk(slots=16, cells=4096, exact=False)
    system = weights.vocab.tokenize(SYSTEM, parse_special=True)
    asked = [*prompts, *((*system, *prompt) for prompt in prompts)]
    for n, prompt in enumerate(asked):
        desk.submit(prompt, key=str(n), max_tokens=COUNT)
    desk.run()
    with Reference.open(MODEL, type_v=llama_cpp.GGML_TYPE_F16) as reference:
        answers = [said(desk, str(n)) for n in range(len(asked))]
        agreed = sum(
            reference.check(prompt, answer, tie=WIDER_TIE)
            for prompt, answer in zip(asked, answers, strict=True)
        )
    assert agreed > 0.5 * sum(map(len, answers))


def test_after_preemption(
    fresh_desk: OpenDesk, reference: Reference, prompts: list[tuple[int, ...]]
) -> None:
    desk = fresh_desk(slots=4, cells=256)
    desk.submit(prompts[1], key="old", max_tokens=150, ignore_eos=True)
    desk.submit(prompts[0], key="young", max_tokens=150, ignore_eos=True)
    desk.run()
    assert desk.ends.pop("young").kind == "preempted"
    first = tuple(said(desk, "young"))
    assert 60 < len(first) < 150
    desk.submit(
        prompts[0], key="young", resumed=(first,), max_tokens=len(first) + 12, ignore_eos=True
    )
    desk.run()
    assert len(said(desk, "young")) == len(first) + 12
    reference.check(prompts[0], said(desk, "young"), ends=False)
