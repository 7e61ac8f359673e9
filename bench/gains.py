"""What the engine's own ideas are worth, each against the same engine without it, in one run.

A prompt that users share is computed once; a long prompt leaves running streams their pace; a
prompt that comes back when its cells were needed by others is loaded from host memory; a schema
costs a mask a token; guesses spare steps where a text repeats itself; adapters take turns;
embeddings of many texts share their decodes.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import llama_server
from bench.adapters import adapters
from bench.embeddings import embeddings
from bench.guesses import guesses
from bench.returning import returning
from bench.stand import Stand, Tokens
from shared.requests import JsonSchema
from shared.settings import read
from workers import local
from workers.engine.constraints import Compiler, MaskFactory
from workers.engine.weights import open_weights

ROUNDS = 3
USERS, COMMON_TOKENS, OWN_TOKENS, ANSWER_TOKENS = 16, 900, 20, 32
STREAMS, LONG_TOKENS, BEFORE_TOKENS, MOST_TOKENS = 4, 4000, 32, 800
CONSTRAINED_STREAMS, CONSTRAINED_TOKENS = 8, 96
PEOPLE = {
    "type": "array",
    "minItems": 30,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "city": {"type": "string"},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
        },
        "required": ["name", "age", "city", "tags"],
        "additionalProperties": False,
    },
}


async def run(console: Console) -> None:
    """Print a table for each."""
    settings = read()
    path = local.resolve(settings)[1]
    with open_weights(path) as weights:
        stand = Stand(weights, settings)
        console.print(shared_prefix(stand, path))
        console.print(long_prompt(stand))
        console.print(returning(stand))
        console.print(constrained(stand))
        console.print(guesses(stand))
    console.print(adapters(path, settings))
    console.print(await embeddings())


def shared_prefix(stand: Stand, path: Path) -> Table:
    """USERS users behind a prompt they have in common: the cache on, off, and llama-server."""
    common = stand.tokens(1, COMMON_TOKENS)
    prompts = [common + stand.tokens(100 + user, OWN_TOKENS) for user in range(USERS)]
    title = f"{USERS} users, {COMMON_TOKENS} tokens in common, answers of {ANSWER_TOKENS}"
    table = Table("", "total s", "last first token s", "times the cache on", title=title)
    on_s = [_total(stand, prompts, sharing=True) for _ in range(ROUNDS)]
    off_s = [_total(stand, prompts, sharing=False) for _ in range(ROUNDS)]
    best_s = statistics.median(total_s for total_s, _ in on_s)
    rows = {"cache on": on_s, "cache off": off_s}
    if found := shutil.which("llama-server"):
        rows["llama-server"] = llama_server.measure(
            found, path, prompts, answer_tokens=ANSWER_TOKENS, rounds=ROUNDS
        )
    for name, times_s in rows.items():
        total_s, first_s = (statistics.median(column) for column in zip(*times_s, strict=True))
        table.add_row(name, f"{total_s:.1f}", f"{first_s:.1f}", f"{total_s / best_s:.2f}")
    if not found:
        table.caption = "llama-server is not on PATH: not measured"
    return table


def _total(stand: Stand, prompts: Sequence[Tokens], *, sharing: bool) -> tuple[float, float]:
    """Seconds to the last token, and to the last of the first tokens."""
    with stand.bench(sharing=sharing) as bench:
        for n, tokens in enumerate(prompts):
            bench.submit(str(n), tokens, most=ANSWER_TOKENS)
        began_s = time.perf_counter()
        total_s = bench.run(lambda: len(bench.ended) == len(prompts) + 1)
        firsts_s = [bench.times_s[str(n)][0] - began_s for n in range(len(prompts))]
        return total_s, max(firsts_s)


def long_prompt(stand: Stand) -> Table:
    """STREAMS streams run, a prompt of LONG_TOKENS arrives: the time between their tokens."""
    title = f"{STREAMS} streams, a prompt of {LONG_TOKENS} tokens arrives: ms between two tokens"
    table = Table("", "median", "99 %", "worst", "long prompt s", title=title)
    ratios = []
    for _ in range(ROUNDS):
        disturbed, took_s = _gaps(stand, LONG_TOKENS)
        alone, _ = _gaps(stand, 0, tokens=len(disturbed) // STREAMS)
        ratios.append(max(disturbed) / max(alone))
        table.add_row("undisturbed", *_quantiles_ms(alone), "")
        table.add_row("long prompt", *_quantiles_ms(disturbed), f"{took_s:.1f}")
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    table.caption = f"worst disturbed over worst undisturbed: {listed}"
    return table


def _gaps(stand: Stand, long_tokens: int, *, tokens: int = 0) -> tuple[list[float], float]:
    """Every stream's gaps in seconds, from the arrival to the long prompt's first token (or over
    so many tokens), and how long that took."""
    with stand.bench() as bench:
        streams = [f"stream {n}" for n in range(STREAMS)]
        for n, key in enumerate(streams):
            bench.submit(key, stand.tokens(200 + n, OWN_TOKENS), most=MOST_TOKENS)
        bench.run(lambda: all(len(bench.times_s[key]) >= BEFORE_TOKENS for key in streams))
        starts = {key: len(bench.times_s[key]) - 1 for key in streams}
        if long_tokens:
            bench.submit("long", stand.tokens(300, long_tokens), most=1)
            took_s = bench.run(lambda: bool(bench.times_s["long"]))
        else:
            wanted = {key: starts[key] + tokens for key in streams}
            took_s = bench.run(lambda: all(len(bench.times_s[k]) > wanted[k] for k in streams))
        found = [pairwise(bench.times_s[key][starts[key] :]) for key in streams]
        return [after - before for pairs in found for before, after in pairs], took_s


def _quantiles_ms(gaps_s: list[float]) -> tuple[str, str, str]:
    ordered = sorted(gaps_s)
    picked = (len(ordered) // 2, int(0.99 * len(ordered)), len(ordered) - 1)
    return tuple(f"{1000 * ordered[at]:.1f}" for at in picked)  # type: ignore[return-value]


def constrained(stand: Stand) -> Table:
    """Tokens a second with a JSON schema and without, turn by turn."""
    mask = Compiler(stand.vocab).compile(JsonSchema(schema=PEOPLE))
    rates = [(_rate(stand, None), _rate(stand, mask)) for _ in range(ROUNDS)]
    free, held = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(with_schema / without for without, with_schema in rates)
    title = f"{CONSTRAINED_STREAMS} streams, {CONSTRAINED_TOKENS} tokens each: tokens/s"
    table = Table("without", "with a JSON schema", "ratio", title=title)
    table.add_row(f"{free:.1f}", f"{held:.1f}", f"{ratio:.3f}")
    return table


def _rate(stand: Stand, mask: MaskFactory | None) -> float:
    with stand.bench() as bench:
        keys = [str(n) for n in range(CONSTRAINED_STREAMS)]
        for n, key in enumerate(keys):
            tokens = stand.tokens(400 + n, OWN_TOKENS)
            bench.submit(key, tokens, most=CONSTRAINED_TOKENS, mask=mask)
        bench.run(lambda: all(bench.times_s[key] for key in keys))
        before = sum(len(bench.times_s[key]) for key in keys)
        took_s = bench.run(lambda: len(bench.ended) == CONSTRAINED_STREAMS + 1)
        return (sum(len(bench.times_s[key]) for key in keys) - before) / took_s
