"""What the api itself costs: one api process, a real Redis with the journal on, no model.

A scripted worker writes one token of each of 64 streams a step, so the api is woken for every token
of every stream: the dearest way there is. CPU is the api process' own, user and system, so that the
load and Redis beside it do not count, and another process' load blurs it only a little.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench import wire
from bench.scripted import ScriptedWorker
from tests.api.fleet import MODEL
from tests.system.fleet import Fleet, fleet

STREAMS = 64
STEPS = 400
PACES_S = (0.02, 0.005)  # between steps: 3,200 and 12,800 tokens/s
IDLE = 2000
CALLS_S = 4.0
SETTLE_S = 0.5

USER = {"messages": [{"role": "user", "content": "hi"}]}
ASKS: dict[str, tuple[str, dict[str, Any], bytes]] = {  # path, body, how a stream ends
    "OpenAI chat": ("/v1/chat/completions", {**USER, "stream": True}, b"data: [DONE]\n\n"),
    "OpenAI text": ("/v1/completions", {"prompt": "hi", "stream": True}, b"data: [DONE]\n\n"),
    "Responses": ("/v1/responses", {"input": "hi", "stream": True, "store": False}, b"\n\n"),
    "Anthropic": ("/anthropic/v1/messages", {**USER, "stream": True}, b'"message_stop"}\n\n'),
    "Ollama": ("/api/chat", {**USER, "stream": True}, b"}\n"),
}


class Api(msgspec.Struct, frozen=True):
    """The process under test."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """User and system time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Bytes in memory."""
        return int(self.process.memory_info().rss)


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[Api, ScriptedWorker]]:
    """An api and a scripted worker on a Redis of their own."""
    async with fleet(log_level="warning") as found:
        process = found.api()
        worker = ScriptedWorker(found.redis)
        await worker.announce()
        await wait_for(found)
        yield Api(found.port, psutil.Process(process.pid)), worker


async def wait_for(found: Fleet) -> None:
    """Until the api answers."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", found.port)
            writer.close()
            return
        await asyncio.sleep(0.05)


async def run(console: Console) -> None:
    """Print the tables."""
    async with house() as (api, worker):
        await relayed(api, worker, "OpenAI chat", pace_s=0.005)  # to warm up
        console.print(await streaming(api, worker))
        console.print(await blocking(api, worker))
    async with house() as (api, worker):
        console.print(await idle(api, worker))


async def streaming(api: Api, worker: ScriptedWorker) -> Table:
    """Tokens a core-second, by dialect and pace."""
    title = f"tokens per core-second of one api process, {STREAMS} streams, a token a step"
    paces = [f"{STREAMS / pace_s:,.0f} tokens/s" for pace_s in PACES_S]
    table = Table("dialect", *paces, title=title)
    for name in ASKS:
        found = [await relayed(api, worker, name, pace_s=pace_s) for pace_s in PACES_S]
        table.add_row(name, *(f"{rate:,.0f}" for rate in found))
    return table


async def relayed(api: Api, worker: ScriptedWorker, name: str, *, pace_s: float) -> float:
    """Tokens per core-second of one dialect: from the second token to the last but the end."""
    path, body, end = ASKS[name]
    asked = wire.request(path, {"model": MODEL, **body}, close=True)
    clients = [asyncio.create_task(wire.stream(api.port, asked)) for _ in range(STREAMS)]
    await worker.claim(STREAMS)
    await worker.step()
    await asyncio.sleep(SETTLE_S)
    before_s = api.cpu_s()
    await paced(worker, pace_s)
    await asyncio.sleep(SETTLE_S)
    used_s = api.cpu_s() - before_s
    await worker.finish()
    for tail in await asyncio.gather(*clients):
        assert end in tail, tail
    return STREAMS * STEPS / used_s


async def paced(worker: ScriptedWorker, pace_s: float) -> None:
    """STEPS steps, one every `pace_s`."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for _ in range(STEPS):
        await worker.step()
        due_s = max(due_s + pace_s, loop.time() - pace_s)  # late steps are not all made up for
        await asyncio.sleep(max(0.0, due_s - loop.time()))


async def blocking(api: Api, worker: ScriptedWorker) -> Table:
    """Whole answers of one token."""
    title = f"blocking answers of one token, {STREAMS} connections"
    table = Table("dialect", "requests/s", "requests per core-second", title=title)
    answering = asyncio.create_task(worker.answer_all())
    for name, (path, body, _) in ASKS.items():
        asked = wire.request(path, {"model": MODEL, **body, "stream": False}, close=False)
        before_s, until_s = api.cpu_s(), asyncio.get_running_loop().time() + CALLS_S
        counts = await asyncio.gather(
            *(wire.calls(api.port, asked, until_s) for _ in range(STREAMS))
        )
        used_s = api.cpu_s() - before_s
        table.add_row(name, f"{sum(counts) / CALLS_S:,.0f}", f"{sum(counts) / used_s:,.0f}")
    answering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await answering
    return table


async def idle(api: Api, worker: ScriptedWorker) -> Table:
    """Memory and CPU of streams that have begun and say nothing."""
    table = Table("open streams", "memory a stream", "CPU of all", title="idle streams")
    path, body, _ = ASKS["OpenAI chat"]
    asked = wire.request(path, {"model": MODEL, **body}, close=True)
    await relayed(api, worker, "OpenAI chat", pace_s=0.005)  # what is imported late, is
    before = api.rss()
    clients = [asyncio.create_task(wire.stream(api.port, asked)) for _ in range(IDLE)]
    await worker.claim(IDLE)
    await asyncio.sleep(4 * SETTLE_S)
    memory, before_s = api.rss() - before, api.cpu_s()
    await asyncio.sleep(CALLS_S)
    share = (api.cpu_s() - before_s) / CALLS_S
    table.add_row(f"{IDLE:,}", f"{memory / IDLE / 1024:.1f} KiB", f"{share:.2f} cores")
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return table
