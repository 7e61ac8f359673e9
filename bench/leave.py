"""A hundred clients that leave, streaming and blocking: how long until nothing runs for them.

Counted from the moment the last one has left to the first look that finds no busy slot on the
worker's card and no lease and no queued job in Redis. The card is written when that changes, at
most every 0.2 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from bench.prompts import prompt
from shared import keys
from tests.system.fleet import CHAT, REF, Fleet, body, fleet

CLIENTS = 100
LOOK_S = 0.02
MOST_LOOKS = 1000


async def run(console: Console) -> None:
    """Print the table."""
    table = Table("clients", "left after, s", "busy when the last left", "all free after, s")
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        for stream in (True, False):
            busy, took_s = await one(house, stream=stream)
            kind = "streaming" if stream else "blocking"
            table.add_row(f"{CLIENTS} {kind}", "0.3-2.3", str(busy), f"{took_s:.2f}")
    console.print(table)


async def one(house: Fleet, *, stream: bool) -> tuple[int, float]:
    """What was busy when the last client left, and how long until nothing was."""
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=house.url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(leave(client, number, stream) for number in range(CLIENTS)))
    left_s = time.perf_counter()
    first = await busy(house)
    for _ in range(MOST_LOOKS):
        if not await busy(house):
            return first, time.perf_counter() - left_s
        await asyncio.sleep(LOOK_S)
    raise RuntimeError("somebody still runs for clients that left")


async def leave(client: httpx.AsyncClient, number: int, stream: bool) -> None:
    """Ask for a long answer and go away in the middle of it."""
    ask = {**body(prompt(number), max_tokens=500, ignore_eos=True), "stream": stream}
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_hear(client, ask), 0.3 + number / 50)


async def _hear(client: httpx.AsyncClient, ask: dict[str, Any]) -> None:
    async with client.stream("POST", CHAT, json=ask) as answer:
        async for _ in answer.aiter_raw():
            pass


async def busy(house: Fleet) -> int:
    """Busy slots, leases and queued jobs, added up."""
    slots = int(await house.metric("caravan_slots_busy"))
    leased = await house.redis.zcard(keys.leases(REF))
    return slots + leased + int(await house.redis.zcard(keys.lane(REF, "interactive")))
