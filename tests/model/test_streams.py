"""The promises of a stream on the real model: resume, cancel, one prefill for many, choices."""

from __future__ import annotations

import math

import pytest

from shared.events import Logprob, TextDelta
from shared.requests import Sampling
from tests.fakes import PlainText
from tests.workers.engine.desk import GREEDY, Desk
from workers.engine.weights import Weights

STORY = "<|im_start|>user\nTell me a story about a fox.<|im_end|>\n<|im_start|>assistant\n"
HOT = Sampling(temperature=0.8, seed=11)
RICH = Sampling(
    temperature=1.0,
    xtc_probability=0.5,
    repeat_penalty=1.2,
    presence_penalty=0.3,
    frequency_penalty=0.2,
    dry_multiplier=0.8,
    dynatemp_range=0.3,
    top_n_sigma=2.0,
    typical_p=0.95,
    logit_bias={198: -2.0, 260: 1.5},
)
MIROSTAT = Sampling(temperature=0.8, mirostat=2)


@pytest.fixture
def story(weights: Weights) -> tuple[int, ...]:
    """A chat prompt as tokens."""
    return weights.vocab.tokenize(STORY, parse_special=True)


@pytest.mark.parametrize("sampling", [GREEDY, HOT, RICH, MIROSTAT], ids=["0", "hot", "rich", "mu"])
def test_a_stream_cut_anywhere_goes_on_the_same(
    desk: Desk, story: tuple[int, ...], sampling: Sampling
) -> None:
    fields = {"max_tokens": 24, "sampling": sampling, "seed": 5, "ignore_eos": True}
    desk.submit(story, key="whole", **fields)
    desk.run()
    said = desk.tokens["whole"][0]
    assert len(said) == 24
    for cut in (1, 2, 7, 13, 23):
        desk.engine.slots.drop_idle()
        key = f"cut at {cut}"
        desk.submit(story, key=key, resumed=(tuple(said[:cut]),), **fields)
        desk.run()
        assert desk.tokens[key][0] == said[cut:], key
        assert desk.ends[key].completion_tokens == 24


def test_seeds_decide(desk: Desk, story: tuple[int, ...]) -> None:
    for key, seed in (("a", 1), ("b", 2), ("c", 1)):
        desk.submit(story, key=key, sampling=HOT, seed=seed, max_tokens=16)
        desk.run()
    assert desk.tokens["a"] == desk.tokens["c"] != desk.tokens["b"]


def test_cancel_leaves_the_others_and_the_memory_right(desk: Desk, story: tuple[int, ...]) -> None:
    desk.submit(story, key="alone", max_tokens=12)
    desk.run()
    desk.engine.slots.drop_idle()
    desk.submit(story * 40, key="long prompt")
    desk.submit(story, key="stays", max_tokens=12)
    desk.step(2)
    desk.engine.cancel("long prompt")
    desk.step()
    assert desk.ends["long prompt"].kind == "cancelled"
    assert desk.engine.slots.live == 1
    desk.run()
    assert desk.tokens["stays"] == desk.tokens["alone"]


def test_sixteen_compute_a_common_prompt_of_900_tokens_once(desk: Desk, weights: Weights) -> None:
    words = weights.vocab.tokenize(" ".join(f"Rule {n}: be kind to animals." for n in range(200)))
    common, ask = words[:900], weights.vocab.tokenize("\nQuestion number")
    for n in range(16):
        tail = (*ask, *weights.vocab.tokenize(f" {n}?"))
        desk.submit((*common, *tail), key=str(n), max_tokens=2)
    desk.run()
    prefilled = sum(stats.prefill_rows for stats in desk.stats)
    assert prefilled < 900 + 16 * 10
    assert sum(stats.cached_tokens for stats in desk.stats) >= 15 * 900
    assert all(end.kind == "finished" for end in desk.ends.values())


def test_choices_share_the_prompt_and_differ(desk: Desk, story: tuple[int, ...]) -> None:
    desk.submit(story, key="job", choices=3, sampling=HOT, seed=1, max_tokens=12)
    desk.run()
    assert sum(stats.prefill_rows for stats in desk.stats) == len(story)
    assert len({tuple(ids) for ids in desk.tokens["job"].values()}) == 3
    assert len(desk.ends["job"].choices) == 3


def test_logprobs_are_sane(desk: Desk, story: tuple[int, ...]) -> None:
    seen: list[Logprob] = []

    class Keeps(PlainText):
        def feed(self, piece: bytes, logprob: Logprob | None = None) -> tuple[TextDelta, ...]:
            assert logprob is not None
            seen.append(logprob)
            assert logprob.chosen.token == piece
            return ()

    desk.submit(story, key="job", logprobs=20, max_tokens=8, pipeline=lambda _: Keeps())
    desk.run()
    assert [one.chosen.id for one in seen] == desk.tokens["job"][0]
    for one in seen:
        assert one.chosen == one.top[0], "greedy takes the most likely"
        assert 0.2 < sum(math.exp(other.logprob) for other in one.top) <= 1 + 1e-5
        assert len({other.id for other in one.top}) == 20
