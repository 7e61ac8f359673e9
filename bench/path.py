"""The whole path against the bare engine loop and llama-server, side by side in one run.

For each number of streams: the loop, the path (client, HTTP, api, Redis, worker, and back) and
llama-server on the same file with as many threads and a slot a stream, again and again; medians.
Greedy, the same lengths, prompts that no cache has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench import rounds
from bench.engine_loop import open_loop
from bench.rounds import ABSENT, LLAMA, LOOP, PATH, Pick, Round, System
from bench.systems import bare, over_http, with_llama_server
from shared.settings import Settings
from tests.system.fleet import CHAT, Fleet, fleet, samples
from workers import local

STREAMS = (1, 4, 8)
TOKENS = 96
ROUNDS = 5
IDLE_ROUNDS = 15
ROWS = {
    "tokens/s": rounds.rate,
    "TTFT ms, median stream": rounds.median_ttft_ms,
    "TTFT ms, last stream": rounds.last_ttft_ms,
}
SETTLE_S = 2.0  # metrics travel in the worker's card, once a second


async def run(console: Console) -> None:
    """Print all tables."""
    seeds = iter(range(1_000_000))
    model = local.resolve(Settings())[1]
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        with open_loop(Settings()) as loop:
            ours = {LOOP: bare(loop), PATH: over_http(house.url, CHAT)}
            for streams in STREAMS:
                console.print(await loaded(ours, model, streams, seeds))
            console.print(*await idle(house, ours, model, seeds), sep="\n")


async def loaded(
    ours: Mapping[str, System], model: Path, streams: int, seeds: Iterator[int]
) -> Table:
    """Tokens a second and time to the first token of so many streams asked at once."""
    with with_llama_server(ours, model, slots=streams) as systems:
        await rounds.warm(systems, streams, seeds)
        turns = await rounds.play(systems, streams, seeds, tokens=TOKENS, rounds=ROUNDS)
    table = Table(title=f"streams: {streams}; {TOKENS} tokens each, medians of {len(turns)} rounds")
    for column in ("", LOOP, PATH, LLAMA):
        table.add_column(column)
    for other in (LOOP, LLAMA):
        table.add_column(f"path / {other}")
        table.add_column("lowest-highest")
    for what, pick in ROWS.items():
        table.add_row(what, *compared(turns, pick))
    return table


def compared(turns: Sequence[Round], pick: Pick) -> list[str]:
    """Cells: each system's median, and the path's number over both others'."""
    cells = [rounds.median(turns, name, pick) for name in (LOOP, PATH, LLAMA)]
    for other in (LOOP, LLAMA):
        cells += rounds.ratio(turns, PATH, other, pick)
    return cells


async def idle(
    house: Fleet, ours: Mapping[str, System], model: Path, seeds: Iterator[int]
) -> tuple[Table, Table]:
    """One stream on an idle system: its first token, and the wait for the worker's first step."""
    with with_llama_server(ours, model, slots=1) as systems:
        await rounds.warm(systems, 1, seeds)
        await asyncio.sleep(SETTLE_S)
        before = await first_steps(house)
        turns = await rounds.play(systems, 1, seeds, tokens=2, rounds=IDLE_ROUNDS)
    return latency(turns), await first_step(house, before)


def latency(turns: Sequence[Round]) -> Table:
    """Time to the first token of each system."""
    columns = (LOOP, PATH, "difference", LLAMA, f"path / {LLAMA}")
    table = Table("", *columns, title="TTFT in ms, one stream, idle")
    times = {name: [1000 * turn[name].ttft_s[0] for turn in turns] for name in turns[0]}
    for row, part in (("p50", 0.5), ("p90", 0.9)):
        at = {name: rounds.quantile(values, part) for name, values in times.items()}
        cells = [f"{value:.1f}" for value in (at[LOOP], at[PATH], at[PATH] - at[LOOP])]
        theirs = at.get(LLAMA)
        cells += [f"{theirs:.1f}", f"{at[PATH] / theirs:.3f}"] if theirs else [ABSENT, ABSENT]
        table.add_row(row, *cells)
    return table


async def first_step(house: Fleet, before: dict[float, float]) -> Table:
    """From enqueue to the first step's start in the idle rounds, by the worker's own histogram."""
    await asyncio.sleep(SETTLE_S)
    counts = {le: count - before[le] for le, count in (await first_steps(house)).items()}
    jobs = counts[float("inf")]
    p50_s = min(limit for limit, count in counts.items() if count >= jobs / 2)
    table = Table("jobs", "p50 below", title="enqueue to first step, one stream, idle")
    table.add_row(f"{jobs:.0f}", f"{1000 * p50_s:.1f} ms")
    return table


async def first_steps(house: Fleet) -> dict[float, float]:
    """The histogram's buckets: upper limit in seconds, jobs below it."""
    async with httpx.AsyncClient(base_url=house.url) as client:
        text = (await client.get("/metrics")).text
    found = samples(text, "caravan_first_step_seconds_bucket", {})
    return {float(labels["le"]): count for labels, count in found}
