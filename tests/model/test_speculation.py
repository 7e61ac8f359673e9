"""Guesses ahead on the real model: not a token differs, greedy or drawn, alone or together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.requests import Sampling
from tests.workers.engine.desk import GREEDY, Desk
from tests.workers.engine.drafters import Free
from workers.engine.runner import LlamaRunner
from workers.engine.speculation import Speculation
from workers.engine.weights import Weights

LIST = "\n".join(f"{n}. The {n}th stop is the station at Mill Lane." for n in range(1, 9))
PROMPTS = (
    f"<|im_start|>user\nRepeat this list, word by word:\n{LIST}<|im_end|>\n<|im_start|>assistant\n",
    "for x in range(10):\n    print(x)\nfor y in range(10):\n    print(y)\nfor z in",
    "red, green, blue, red, green, blue, red,",
    "Once upon a time, in a small village by the sea,",
)
COUNT = 80


@pytest.fixture(scope="module")
def prompts(weights: Weights) -> list[tuple[int, ...]]:
    """PROMPTS as tokens."""
    return [weights.vocab.tokenize(text, parse_special=True) for text in PROMPTS]


@pytest.fixture
def quick(shared_runner: LlamaRunner, desk: Desk) -> Iterator[Desk]:
    """A second engine over the same context, which guesses whatever it costs. Not to be used in
    turns with the first while either has something in the memory."""
    opened = Desk(shared_runner, speculation=Speculation(most=16, prices=Free()))
    yield opened
    opened.engine.slots.drop_idle()
    opened.step()
    assert opened.engine.slots.used == 0


def said(desk: Desk, prompts: list[tuple[int, ...]], sampling: Sampling) -> list[list[int]]:
    """Every prompt's answer, all computed together; the memory is empty before and after."""
    desk.tokens.clear()
    desk.ends.clear()
    for n, prompt in enumerate(prompts):
        desk.submit(
            prompt, key=str(n), max_tokens=COUNT, sampling=sampling, seed=n, ignore_eos=True
        )
    desk.run()
    desk.engine.slots.drop_idle()
    desk.step()
    return [desk.tokens[str(n)][0] for n in range(len(prompts))]


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(temperature=0.8, repeat_penalty=1.05)], ids=["greedy", "drawn"]
)
def test_the_same_tokens(
    desk: Desk, quick: Desk, prompts: list[tuple[int, ...]], sampling: Sampling
) -> None:
    plain = said(desk, prompts, sampling)
    assert said(quick, prompts, sampling) == plain
    assert said(quick, prompts[:1], sampling) == plain[:1]
    accepted = sum(stats.accepted_tokens for stats in quick.stats)
    drafts = sum(stats.draft_tokens for stats in quick.stats)
    assert drafts > accepted > 20
