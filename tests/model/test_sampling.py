"""Every sampler draws from the distribution of llama.cpp's own chain on the same logits."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import llama_cpp
import numpy as np
import pytest
from numpy.typing import NDArray

from shared.requests import Sampling
from workers.engine.plan import Chunk, Cut, Plan
from workers.engine.runner import LlamaRunner
from workers.engine.seeds import sampler_seed

OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}
DRAWS = 600
ENTRY = np.dtype([("id", "i4"), ("logit", "f4"), ("p", "f4")])
Stage = Callable[[], Any]

CASES: dict[str, tuple[dict[str, Any], list[Stage]]] = {
    "plain": ({}, []),
    "top_k": ({"top_k": 7}, [lambda: llama_cpp.llama_sampler_init_top_k(7)]),
    "top_p": ({"top_p": 0.6}, [lambda: llama_cpp.llama_sampler_init_top_p(0.6, 0)]),
    "min_p": ({"min_p": 0.1}, [lambda: llama_cpp.llama_sampler_init_min_p(0.1, 0)]),
    "typical_p": ({"typical_p": 0.5}, [lambda: llama_cpp.llama_sampler_init_typical(0.5, 0)]),
    "top_n_sigma": (
        {"top_n_sigma": 1.0},
        [lambda: llama_cpp.llama_sampler_init_top_n_sigma(1.0)],
    ),
    "temperature": (
        {"temperature": 0.6},
        [lambda: llama_cpp.llama_sampler_init_temp(0.6)],
    ),
    "dynamic temperature": (
        {"temperature": 0.9, "dynatemp_range": 0.5, "dynatemp_exponent": 1.5},
        [lambda: llama_cpp.llama_sampler_init_temp_ext(0.9, 0.5, 1.5)],
    ),
    "xtc": (
        {"xtc_probability": 1.0, "xtc_threshold": 0.05},
        [lambda: llama_cpp.llama_sampler_init_xtc(1.0, 0.05, 0, 1)],
    ),
    "llama-server's defaults": (
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
        [
            lambda: llama_cpp.llama_sampler_init_top_k(40),
            lambda: llama_cpp.llama_sampler_init_top_p(0.95, 0),
            lambda: llama_cpp.llama_sampler_init_min_p(0.05, 0),
            lambda: llama_cpp.llama_sampler_init_temp(0.8),
        ],
    ),
}


@pytest.fixture(scope="module")
def row(shared_runner: LlamaRunner) -> Iterator[NDArray[np.float32]]:
    """The logits behind an open question, in batch row 0 of the shared context."""
    prompt = shared_runner.vocab.tokenize("My favourite animal is the")
    last = len(prompt) - 1
    shared_runner.decode(Plan((), (Chunk(0, 0, prompt[:last], 0),)))
    shared_runner.decode(Plan((), (Chunk(0, last, prompt[last:], 1),)))
    yield shared_runner.logits(0)
    shared_runner.decode(Plan((Cut(0, 0),), ()))


def chances(logits: NDArray[np.float32], stages: list[Stage]) -> NDArray[np.float64]:
    """Each token's probability after llama.cpp's samplers."""
    count = len(logits)
    entries = (llama_cpp.llama_token_data * count)()
    view = np.frombuffer(entries, ENTRY)
    view["id"], view["logit"], view["p"] = np.arange(count), logits, 0
    array = llama_cpp.llama_token_data_array(
        data=ctypes.cast(entries, llama_cpp.llama_token_data_p), size=count, selected=-1
    )
    for make in stages:
        sampler = make()
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        llama_cpp.llama_sampler_free(sampler)
    address = ctypes.addressof(array.data.contents)
    left = np.frombuffer((llama_cpp.llama_token_data * array.size).from_address(address), ENTRY)
    ids, values = left["id"].copy(), left["logit"].copy()
    weight = np.exp(values.astype(np.float64) - values.max())
    result = np.zeros(count)
    result[ids] = weight / weight.sum()
    return result


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_librarys_distribution(
    name: str, shared_runner: LlamaRunner, row: NDArray[np.float32]
) -> None:
    fields, stages = CASES[name]
    expected = chances(row, stages)
    sampler = shared_runner.sampler(Sampling(**{**OFF, **fields}), seed=3)
    drawn = np.bincount([sampler.draw(0, n) for n in range(DRAWS)], minlength=len(row)) / DRAWS
    sampler.close()
    assert not drawn[expected == 0].any(), "a token was drawn that the library excludes"
    likely = expected > 0.01
    spread = np.sqrt(expected * (1 - expected) / DRAWS)
    assert (np.abs(drawn - expected)[likely] < 4.5 * spread[likely]).all()
    rest = expected[~likely].sum()
    assert abs(drawn[~likely].sum() - rest) < 4.5 * np.sqrt(rest * (1 - rest) / DRAWS) + 1e-9


def test_xtc_strikes_as_often_as_asked(
    shared_runner: LlamaRunner, row: NDArray[np.float32]
) -> None:
    always, never = (CASES[name] for name in ("xtc", "plain"))
    mixed = 0.3 * chances(row, always[1]) + 0.7 * chances(row, never[1])
    sampling = Sampling(**{**OFF, **always[0], "xtc_probability": 0.3})
    sampler = shared_runner.sampler(sampling, seed=5)
    drawn = np.bincount([sampler.draw(0, n) for n in range(DRAWS)], minlength=len(row)) / DRAWS
    sampler.close()
    best = int(row.argmax())
    assert abs(drawn[best] - mixed[best]) < 4.5 * np.sqrt(mixed[best] / DRAWS)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws_what_the_librarys_does(
    version: int, shared_runner: LlamaRunner, row: NDArray[np.float32]
) -> None:
    seed = sampler_seed(3, 0)
    makers = {
        1: lambda: llama_cpp.llama_sampler_init_mirostat(len(row), seed, 4.0, 0.2, 100),
        2: lambda: llama_cpp.llama_sampler_init_mirostat_v2(seed, 4.0, 0.2),
    }
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_temp(0.9))
    llama_cpp.llama_sampler_chain_add(chain, makers[version]())
    context = shared_runner._context
    expected = [llama_cpp.llama_sampler_sample(chain, context, 0) for _ in range(60)]
    llama_cpp.llama_sampler_free(chain)
    sampling = Sampling(temperature=0.9, mirostat=version, mirostat_tau=4.0, mirostat_eta=0.2)
    sampler = shared_runner.sampler(sampling, seed=3)
    assert [sampler.draw(0, n) for n in range(60)] == expected
    assert len(set(expected)) > 5
    sampler.close()


def test_penalties_lower_what_was_said(
    shared_runner: LlamaRunner, row: NDArray[np.float32]
) -> None:
    best, second = (int(token) for token in np.argsort(-row)[:2])
    for fields in (
        {"presence_penalty": 100.0},
        {"frequency_penalty": 100.0},
        {"repeat_penalty": 100.0},
        {"logit_bias": {best: -100.0}},
    ):
        sampler = shared_runner.sampler(Sampling(temperature=0, **fields), seed=0)
        if "logit_bias" not in fields:
            assert sampler.draw(0, 0) == best
        assert sampler.draw(0, 1) == second
        sampler.close()


def test_penalties_forget_behind_their_window(
    shared_runner: LlamaRunner, row: NDArray[np.float32]
) -> None:
    best = int(row.argmax())
    sampling = Sampling(temperature=0, presence_penalty=100.0, repeat_last_n=2)
    sampler = shared_runner.sampler(sampling, seed=0)
    drawn = [sampler.draw(0, n) for n in range(4)]
    sampler.close()
    assert drawn[0] == drawn[3] == best
    assert best not in drawn[1:3]


def test_dry_stops_a_loop(shared_runner: LlamaRunner, row: NDArray[np.float32]) -> None:
    best = int(row.argmax())
    loop = [best, 1000, 1001, 1002] * 3
    for multiplier, expected in ((0.0, True), (50.0, False)):
        sampling = Sampling(temperature=0, dry_multiplier=multiplier, dry_sequence_breakers=("\n",))
        sampler = shared_runner.sampler(sampling, seed=0)
        for token in loop:
            sampler.accept(token)
        assert (sampler.draw(0, 0) == best) is expected
        sampler.close()
