"""The whole path against the bare engine loop, side by side in one run.

For each number of streams: the loop, then the path (client, HTTP, api, Redis, worker, and back),
again and again; medians of the pairs. Greedy, the same lengths, prompts that no cache has seen.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from bench.engine_loop import Loop, open_loop
from bench.load import Load, chat_together
from bench.prompts import prompt
from shared.settings import Settings
from tests.system.fleet import CHAT, MODEL, Fleet, fleet, samples

STREAMS = (1, 4, 8)
TOKENS = 96
ROUNDS = 5
IDLE_ROUNDS = 15
SETTLE_S = 2.0  # metrics travel in the worker's card, once a second


class Pair(msgspec.Struct, frozen=True):
    """One round: the loop and the path on the same number of streams."""

    loop_tokens_per_s: float
    path_tokens_per_s: float

    @property
    def ratio(self) -> float:
        """The path's share of the loop's speed."""
        return self.path_tokens_per_s / self.loop_tokens_per_s


async def run(console: Console) -> None:
    """Print both tables."""
    seeds = iter(range(1_000_000))
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        with open_loop(Settings()) as loop:
            loop.run([next(seeds)], tokens=8)
            await through(house, 1, seeds, tokens=8)
            console.print(await throughput(house, loop, seeds))
            before = await first_steps(house)
            console.print(await latency(house, loop, seeds))
            console.print(await first_step(house, before))


async def throughput(house: Fleet, loop: Loop, seeds: Iterator[int]) -> Table:
    """Tokens a second of both, by number of streams."""
    title = f"tokens/s, {TOKENS} tokens a stream, medians of {ROUNDS} rounds"
    table = Table("streams", "loop", "whole path", "ratio", "lowest-highest", title=title)
    for streams in STREAMS:
        pairs = [await one_round(house, loop, streams, seeds) for _ in range(ROUNDS)]
        ratios = sorted(pair.ratio for pair in pairs)
        table.add_row(
            str(streams),
            f"{statistics.median(pair.loop_tokens_per_s for pair in pairs):.1f}",
            f"{statistics.median(pair.path_tokens_per_s for pair in pairs):.1f}",
            f"{statistics.median(ratios):.3f}",
            f"{ratios[0]:.3f}-{ratios[-1]:.3f}",
        )
    return table


async def one_round(house: Fleet, loop: Loop, streams: int, seeds: Iterator[int]) -> Pair:
    """The loop, then the path."""
    bare = loop.run([next(seeds) for _ in range(streams)], tokens=TOKENS)
    whole = await through(house, streams, seeds, tokens=TOKENS)
    return Pair(bare.tokens_per_s, whole.tokens_per_s)


async def through(house: Fleet, streams: int, seeds: Iterator[int], *, tokens: int) -> Load:
    """So many streams at once through the whole path."""
    bodies = [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt(next(seeds))}],
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        for _ in range(streams)
    ]
    return await chat_together(house.url, CHAT, bodies)


async def latency(house: Fleet, loop: Loop, seeds: Iterator[int]) -> Table:
    """Time to the first token of one stream on an idle system."""
    bare, whole = [], []
    for _ in range(IDLE_ROUNDS):
        bare.append(1000 * loop.run([next(seeds)], tokens=2).ttft_s[0])
        answer = await through(house, 1, seeds, tokens=2)
        whole.append(1000 * answer.streams[0].ttft_s)
    table = Table("", "loop", "whole path", "difference", title="TTFT in ms, one stream, idle")
    for name, pick in (("p50", 0.5), ("p90", 0.9)):
        low, high = quantile(bare, pick), quantile(whole, pick)
        table.add_row(name, f"{low:.1f}", f"{high:.1f}", f"{high - low:.1f}")
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


def quantile(values: list[float], part: float) -> float:
    """The value below which `part` of all lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
