"""What the same streams cost from sse-starlette alone: the yardstick beside the api.

One process, a Litestar app under uvicorn with the api's loop and parser, and nothing else: no
Redis, no journal, no jobs, no middleware. A ticker in it hands every stream a chunk a step, framed
before, of the size of ours; so each stream is woken for each token, as ours are.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from litestar import Litestar, post
from litestar.types import ASGIApp
from sse_starlette import EventSourceResponse

from api.__main__ import listen, server
from bench import wire
from bench.pace import paced
from shared.settings import Settings
from tests.servers import free_port

PATH = "/stream"
DONE = b"data: [DONE]\n\n"


class Yardstick:
    """The process, told what to do over HTTP: before and after what is measured."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.process = psutil.Process(pid)

    async def claim(self, count: int) -> None:
        """Wait until so many streams are open."""
        await self._tell("/ready", count=count)

    async def play(self, *, steps: int, pace_s: float) -> None:
        """A chunk of every stream, `steps` times, one every `pace_s`."""
        await self._tell("/play", steps=steps, pace_s=pace_s)

    async def finish(self) -> None:
        """End every stream."""
        await self._tell("/finish")

    async def _tell(self, path: str, **body: float) -> None:
        await wire.stream(self.port, wire.request(path, body, close=True))


@contextmanager
def yardstick() -> Iterator[Yardstick]:
    """The process, ended with the block; it may not listen yet."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.yardstick", str(port)])
    try:
        yield Yardstick(port, process.pid)
    finally:
        process.kill()
        process.wait()


class Streams:
    """Those that are open, each fed by a queue."""

    def __init__(self) -> None:
        self.opened = asyncio.Semaphore(0)
        self._fed: list[tuple[asyncio.Queue[bytes], bytes]] = []

    def open(self, chunk: bytes) -> AsyncIterator[bytes]:
        """One more, that says `chunk` at every step."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._fed.append((queue, chunk))
        self.opened.release()
        return _until_done(queue)

    async def step(self) -> None:
        """A chunk of each."""
        for queue, chunk in self._fed:
            queue.put_nowait(chunk)

    def finish(self) -> None:
        """End them."""
        for queue, _ in self._fed:
            queue.put_nowait(DONE)
        self._fed = []


async def _until_done(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while (chunk := await queue.get()) is not DONE:
        yield chunk
    yield DONE


def create_app() -> Litestar:
    """The app; all streams of a process are one load."""
    streams = Streams()

    @post(PATH)
    async def stream(data: dict[str, str]) -> ASGIApp:
        body: Any = EventSourceResponse(streams.open(data["chunk"].encode()))
        return body  # type: ignore[no-any-return]

    @post("/ready", status_code=200)
    async def ready(data: dict[str, int]) -> None:
        for _ in range(data["count"]):
            await streams.opened.acquire()

    @post("/play", status_code=200)
    async def play(data: dict[str, float]) -> None:
        await paced(streams.step, steps=int(data["steps"]), pace_s=data["pace_s"])

    @post("/finish", status_code=200)
    async def finish() -> None:
        streams.finish()

    return Litestar([stream, ready, play, finish], openapi_config=None, logging_config=None)


def serve(port: int) -> None:
    """Run it on loopback, as the api is run."""
    found = Settings(port=port)
    server(found, create_app()).run(sockets=listen(found))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
