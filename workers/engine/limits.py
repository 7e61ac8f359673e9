"""Which sampling values the library survives: checked before submission, and by the engine again.

Numbers that are not finite end in comparisons that are always false, and windows or lists without
bound in gigabytes or seconds. Dialects have narrower ranges of their own.
"""

from __future__ import annotations

import math

from shared.errors import RequestError
from shared.requests import Sampling
from workers.engine import media
from workers.engine.doors import SequenceRequest
from workers.engine.plan import Runner

MOST_BREAKERS = 16
MOST_BREAKER_BYTES = 40  # llama.cpp cuts longer ones
LARGEST = 1e6

AT_LEAST_ZERO = (
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_p",
    "min_p",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "mirostat_tau",
    "mirostat_eta",
)
ANY = ("top_n_sigma", "presence_penalty", "frequency_penalty")
COUNTS = ("top_k", "repeat_last_n", "dry_penalty_last_n")  # -1 or 0 mean all or none
LARGEST_COUNT = 2**31 - 1


def check(sampling: Sampling, *, n_vocab: int) -> None:
    """Raises RequestError, which names the field."""
    for name in AT_LEAST_ZERO:
        _within(name, getattr(sampling, name), 0)
    for name in ANY:
        _within(name, getattr(sampling, name), -LARGEST)
    for name in COUNTS:
        _within(name, getattr(sampling, name), -1, LARGEST_COUNT)
    _within("repeat_penalty", sampling.repeat_penalty, 0.01, 100)
    _check_breakers(sampling.dry_sequence_breakers)
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < n_vocab:
            raise RequestError(f"logit_bias: there is no token {token}", param="logit_bias")
        _within("logit_bias", bias, -LARGEST)


def fault(request: SequenceRequest, runner: Runner) -> str:
    """Why this runner cannot compute a request at all; empty if it can."""
    prompt = [token for token in request.prompt if token >= 0 or not request.media]
    tokens = [*prompt, *(token for ids in request.resumed for token in ids)]
    if not 0 < len(request.prompt) < runner.context_length:
        return f"a prompt of {len(request.prompt)} tokens does not fit the context"
    if not all(0 <= token < runner.n_vocab for token in tokens):
        return "a token is not in the vocabulary"
    if request.resumed and len(request.resumed) != request.choices:
        return "resumed tokens of another number of choices"
    try:
        check(request.sampling, n_vocab=runner.n_vocab)
    except RequestError as error:
        return error.message
    width, most = runner.width, runner.batch_rows
    return media.fault(request.prompt, request.media, width=width, batch_rows=most)


def _within(name: str, value: float, low: float, high: float = LARGEST) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RequestError(f"{name} must be from {low:g} to {high:g}, not {value}", param=name)


def _check_breakers(breakers: tuple[str, ...]) -> None:
    name = "dry_sequence_breakers"
    if len(breakers) > MOST_BREAKERS:
        raise RequestError(f"{name}: at most {MOST_BREAKERS}", param=name)
    if any(not 0 < len(text.encode()) <= MOST_BREAKER_BYTES or "\0" in text for text in breakers):
        raise RequestError(f"{name}: each has 1 to {MOST_BREAKER_BYTES} bytes", param=name)
