"""Speculative decoding against the same engine without: tokens a second, turn by turn."""

from __future__ import annotations

import statistics

from rich.table import Table

from bench.prompts import prompt
from bench.stand import Stand, Tokens
from shared.requests import Sampling

ROUNDS, TOKENS, LEARNING_TOKENS, DRAFT_MAX = 3, 256, 48, 16
STREAMS = (1, 4, 8)
GREEDY = Sampling(temperature=0)
DRAWN = Sampling(temperature=0.8)
WORDS = ["red", "green", "blue", "white", "black", "brown", "pink", "grey", "gold", "teal"]
CHAT = "<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def guesses(stand: Stand) -> Table:
    """A text that repeats its prompt, and one that has nothing to repeat."""
    title = f"guesses of up to {DRAFT_MAX} tokens, {TOKENS} tokens a stream: tokens/s"
    table = Table("", "streams", "without", "with", "ratio", "accepted", title=title)
    for name, sampling in (("repetitive", GREEDY), ("prose, drawn", DRAWN)):
        for streams in STREAMS:
            prompts = [_tokens(stand, name, n) for n in range(streams)]
            table.add_row(name, str(streams), *_compare(stand, prompts, sampling))
    return table


def _tokens(stand: Stand, name: str, n: int) -> Tokens:
    """The same few words over and over, which the model then goes on repeating; or a wish."""
    if name == "repetitive":
        words = ", ".join(WORDS[(n + k) % len(WORDS)] for k in range(6))
        return stand.vocab.tokenize(", ".join([words] * 8) + ",")
    return stand.vocab.tokenize(CHAT.format(text=prompt(n)), parse_special=True)


def _compare(stand: Stand, prompts: list[Tokens], sampling: Sampling) -> tuple[str, ...]:
    plain, quick, ratios, shares = [], [], [], []
    for _ in range(ROUNDS):
        before, _ = _rate(stand, prompts, sampling, draft_max=0)
        after, share = _rate(stand, prompts, sampling, draft_max=DRAFT_MAX)
        plain.append(before)
        quick.append(after)
        ratios.append(after / before)
        shares.append(share)
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    rates = (f"{statistics.median(column):.1f}" for column in (plain, quick))
    return (*rates, spread, f"{statistics.median(shares):.2f}")


def _rate(
    stand: Stand, prompts: list[Tokens], sampling: Sampling, *, draft_max: int
) -> tuple[float, float]:
    """Tokens a second from the last first token on, and the share of guesses that came true. The
    same prompts before that, for an engine that has learned what rows cost."""
    with stand.bench(draft_max=draft_max) as bench:
        for n, tokens in enumerate(prompts):
            bench.submit(f"before {n}", tokens, most=LEARNING_TOKENS, sampling=sampling)
        bench.run(lambda: len(bench.ended) == len(prompts) + 1)
        bench.drafted = bench.accepted = 0
        keys = [str(n) for n in range(len(prompts))]
        for key, tokens in zip(keys, prompts, strict=True):
            bench.submit(key, tokens, most=TOKENS, sampling=sampling)
        bench.run(lambda: all(bench.times_s[key] for key in keys))
        before = sum(len(bench.times_s[key]) for key in keys)
        took_s = bench.run(lambda: len(bench.ended) == 2 * len(keys) + 1)
        made = sum(len(bench.times_s[key]) for key in keys) - before
        return made / took_s, bench.accepted / max(1, bench.drafted)
