"""One llama.cpp sampler chain a sequence, in llama.cpp's own order; the only such calls.

Samplers that draw are made anew for each token with a seed of (seed, position): nothing of them has
to be carried to another worker. Mirostat learns from every token it draws, so its sampler lives as
long as the sequence, and resuming draws the resumed tokens again from their own logits.
Penalties and DRY look at generated tokens, never at the prompt.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import llama_cpp

from shared.requests import Sampling
from workers.engine.seeds import sampler_seed

MIROSTAT_LEARNS_FROM = 100  # llama.cpp's own choice of m
COLDEST = 1e-3

Make = Callable[[], Any]
MakeDrawing = Callable[[int], Any]


class LlamaSampler:
    """Draws from the logits of one context. `window` stands for "-1: the whole context"."""

    def __init__(self, sampling: Sampling, *, seed: int, context: Any, window: int) -> None:
        self._context = context
        self._seed = seed
        vocab = llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context))
        params = llama_cpp.llama_sampler_chain_default_params()
        self._chain = llama_cpp.llama_sampler_chain_init(params)
        for make in lasting(sampling, vocab, window, sampler_seed(seed, 0)):
            llama_cpp.llama_sampler_chain_add(self._chain, make())
        self._lasting = llama_cpp.llama_sampler_chain_n(self._chain)
        self._drawing = tuple(drawing(sampling))
        self.needs_logits = sampling.mirostat > 0 and not is_greedy(sampling)

    def draw(self, row: int, position: int) -> int:
        """The token for `position`, from batch row `row`; accepted."""
        if self._drawing:
            self._renew(sampler_seed(self._seed, position))
        return int(llama_cpp.llama_sampler_sample(self._chain, self._context, row))

    def accept(self, token: int) -> None:
        """Remember a token for penalties."""
        llama_cpp.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        """Free the chain and all in it."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _renew(self, seed: int) -> None:
        chain, count = self._chain, llama_cpp.llama_sampler_chain_n(self._chain)
        for _ in range(count - self._lasting):
            old = llama_cpp.llama_sampler_chain_remove(chain, self._lasting)
            llama_cpp.llama_sampler_free(old)
        for make in self._drawing:
            llama_cpp.llama_sampler_chain_add(chain, make(seed))


def lasting(s: Sampling, vocab: Any, window: int, seed: int) -> Iterator[Make]:
    """The samplers that live as long as the sequence: those that draw nothing, or learn."""
    n_vocab = llama_cpp.llama_vocab_n_tokens(vocab)
    if s.logit_bias:
        yield lambda: logit_bias(s.logit_bias, n_vocab)
    if s.repeat_last_n and (s.repeat_penalty, s.frequency_penalty, s.presence_penalty) != (1, 0, 0):
        yield lambda: penalties(s, n_vocab, window)
    if s.dry_multiplier and s.dry_base >= 1 and s.dry_penalty_last_n:
        yield lambda: dry(s, vocab, window)
    if is_greedy(s):
        yield llama_cpp.llama_sampler_init_greedy
    elif s.mirostat:
        yield lambda: llama_cpp.llama_sampler_init_temp(s.temperature)
        yield lambda: mirostat(s, n_vocab, seed)
    else:
        yield from filters(s)


def filters(s: Sampling) -> Iterator[Make]:
    """The stages that narrow the choice, in llama.cpp's order."""
    if s.top_n_sigma > 0:
        yield lambda: llama_cpp.llama_sampler_init_top_n_sigma(s.top_n_sigma)
    if s.top_k > 0:
        yield lambda: llama_cpp.llama_sampler_init_top_k(s.top_k)
    if s.typical_p < 1:
        yield lambda: llama_cpp.llama_sampler_init_typical(s.typical_p, 0)
    if s.top_p < 1:
        yield lambda: llama_cpp.llama_sampler_init_top_p(s.top_p, 0)
    if s.min_p > 0:
        yield lambda: llama_cpp.llama_sampler_init_min_p(s.min_p, 0)


def drawing(s: Sampling) -> Iterator[MakeDrawing]:
    """The samplers made anew for each token, from the first that needs a random number on."""
    if is_greedy(s) or s.mirostat:
        return
    if s.xtc_probability > 0:
        yield lambda seed: llama_cpp.llama_sampler_init_xtc(
            s.xtc_probability, s.xtc_threshold, 0, seed
        )
    yield lambda _: llama_cpp.llama_sampler_init_temp_ext(
        s.temperature, s.dynatemp_range, s.dynatemp_exponent
    )
    yield llama_cpp.llama_sampler_init_dist


def is_greedy(s: Sampling) -> bool:
    """Whether chance has no part. Logits divided by less than this overflow."""
    return s.temperature < COLDEST


def mirostat(s: Sampling, n_vocab: int, seed: int) -> Any:
    """Mirostat 1 or 2."""
    if s.mirostat == 1:
        return llama_cpp.llama_sampler_init_mirostat(
            n_vocab, seed, s.mirostat_tau, s.mirostat_eta, MIROSTAT_LEARNS_FROM
        )
    return llama_cpp.llama_sampler_init_mirostat_v2(seed, s.mirostat_tau, s.mirostat_eta)


def logit_bias(bias: dict[int, float], n_vocab: int) -> Any:
    """Additions to single logits."""
    pairs = (llama_cpp.llama_logit_bias * len(bias))()
    for pair, (token, value) in zip(pairs, bias.items(), strict=True):
        pair.token, pair.bias = token, value
    return llama_cpp.llama_sampler_init_logit_bias(n_vocab, len(bias), pairs)


def penalties(s: Sampling, n_vocab: int, window: int) -> Any:
    """Repeat, frequency and presence penalties."""
    last = _window(s.repeat_last_n, window)
    return llama_cpp.llama_sampler_init_penalties(
        n_vocab, last, s.repeat_penalty, s.frequency_penalty, s.presence_penalty
    )


def dry(s: Sampling, vocab: Any, window: int) -> Any:
    """Don't Repeat Yourself."""
    breakers = [text.encode() for text in s.dry_sequence_breakers]
    return llama_cpp.llama_sampler_init_dry(
        vocab,
        s.dry_multiplier,
        s.dry_base,
        s.dry_allowed_length,
        _window(s.dry_penalty_last_n, window),
        (ctypes.c_char_p * len(breakers))(*breakers),
        len(breakers),
    )


def _window(asked: int, whole: int) -> int:
    """The library allots memory for the whole window at once: never more than a context."""
    return min(asked, whole) if asked >= 0 else whole
