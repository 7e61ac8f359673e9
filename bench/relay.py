"""What the api itself costs: one api process, a real Redis with the journal on, no model.

A scripted worker writes one token of each of 64 streams a step, so the api is woken for every token
of every stream: the dearest way there is. CPU is the api process' own, user and system, so that the
load and Redis beside it do not count, and another process' load blurs it only a little. The same
streams from sse-starlette alone say what this machine's core-second is worth.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from api.admission import new_id
from api.dialects.openai.render import ChatStream, Head
from bench import wire
from bench.scripted import PIECE, ScriptedWorker
from bench.streamed import (
    ALONE,
    PACES_S,
    SETTLE_S,
    STREAMS,
    Line,
    Server,
    measure,
    rounds,
    table,
)
from bench.yardstick import DONE, PATH, yardstick
from tests.api.fleet import MODEL
from tests.system.fleet import fleet

IDLE = 2000
CALLS_S = 4.0
CHAT = "OpenAI chat"

USER = {"messages": [{"role": "user", "content": "hi"}]}
ASKS: dict[str, tuple[str, dict[str, Any], bytes]] = {  # path, body, how a stream ends
    CHAT: ("/v1/chat/completions", {**USER, "stream": True}, b"data: [DONE]\n\n"),
    "OpenAI text": ("/v1/completions", {"prompt": "hi", "stream": True}, b"data: [DONE]\n\n"),
    "Responses": ("/v1/responses", {"input": "hi", "stream": True, "store": False}, b"\n\n"),
    "Anthropic": ("/anthropic/v1/messages", {**USER, "stream": True}, b'"message_stop"}\n\n'),
    "Ollama": ("/api/chat", {**USER, "stream": True}, b"}\n"),
}


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[Server, ScriptedWorker]]:
    """An api and a scripted worker on a Redis of their own."""
    async with fleet(log_level="warning") as found:
        process = found.api()
        worker = ScriptedWorker(found.redis)
        await worker.announce()
        await wait_for(found.port)
        yield Server(found.port, psutil.Process(process.pid)), worker


async def wait_for(port: int) -> None:
    """Until somebody listens there."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)


async def run(console: Console) -> None:
    """Print the tables."""
    async with house() as (api, worker):
        console.print(await streaming(api, worker))
        console.print(await blocking(api, worker))
    async with house() as (api, worker):
        console.print(await idle(api, worker))


async def streaming(api: Server, worker: ScriptedWorker) -> Table:
    """Tokens a core-second, by dialect and pace, beside the yardstick."""
    with yardstick() as alone:
        await wait_for(alone.port)
        bare = Line(Server(alone.port, alone.process), alone, asked_alone(), DONE)
        lines = {name: line(api, worker, name) for name in ASKS} | {ALONE: bare}
        await measure(bare, PACES_S[-1])  # to warm up
        await measure(lines[CHAT], PACES_S[-1])
        return table(await rounds(lines), list(lines))


def line(api: Server, worker: ScriptedWorker, name: str) -> Line:
    """A dialect of the api."""
    path, body, end = ASKS[name]
    return Line(api, worker, wire.request(path, {"model": MODEL, **body}, close=True), end)


def asked_alone() -> bytes:
    """The yardstick's request, with a chunk as a chat has it."""
    stream = ChatStream(Head.now(job=new_id("chatcmpl-"), model=MODEL))
    stream.feed((PIECE,))  # the first also says the role
    return wire.request(PATH, {"chunk": stream.feed((PIECE,)).decode()}, close=True)


async def blocking(api: Server, worker: ScriptedWorker) -> Table:
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


async def idle(api: Server, worker: ScriptedWorker) -> Table:
    """Memory and CPU of streams that have begun and say nothing."""
    table = Table("open streams", "memory a stream", "CPU of all", title="idle streams")
    path, body, _ = ASKS[CHAT]
    asked = wire.request(path, {"model": MODEL, **body}, close=True)
    await measure(line(api, worker, CHAT), PACES_S[-1])  # what is imported late, is
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
