"""A fleet of real processes for tests: a Redis, apis and workers that really get killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from shared.connection import open_redis
from shared.settings import Settings
from tests.servers import RedisServer, free_port, redis_binaries

MODEL = "ai/smollm2"
REF = "ai/smollm2:latest"
CHAT = "/engines/llama.cpp/v1/chat/completions"
START_LIMIT_S = 60.0


class Fleet:
    """Processes on one Redis. `kill` and `pause` take what `worker()` and `api()` returned."""

    def __init__(self, server: RedisServer, folder: Path, **settings: Any) -> None:
        self.server = server
        self.redis_url = server.url
        self.redis: Redis = open_redis(server.url)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._settings = {
            "redis_url": server.url,
            "data_dir": str(Settings().home),
            "port": self.port,
            "log_format": "json",
            **settings,
        }

    def worker(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a worker process."""
        return self._start("workers", settings)

    def api(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Start an api process."""
        return self._start("api", settings)

    async def ready(self, *, workers: int = 1) -> None:
        """Return once the api and so many workers are there."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            async with asyncio.timeout(START_LIMIT_S):
                while await live_workers(client) < workers:
                    self._all_alive()
                    await asyncio.sleep(0.05)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples whose labels match."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            text = (await client.get("/metrics")).text
        return sum(value for _, value in samples(text, name, labels))

    def end(self, process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL) -> None:
        """End a process of this fleet and wait for it."""
        process.send_signal(how)
        process.wait(timeout=30)
        self.processes.remove(process)

    def close(self) -> None:
        """End everything."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []

    def log(self) -> str:
        """What all processes wrote."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def environment(self, **settings: Any) -> dict[str, str]:
        """Of a process of this fleet."""
        chosen = {**self._settings, **settings}
        inherited = {name: value for name, value in os.environ.items() if "CARAVAN" not in name}
        return inherited | {f"CARAVAN_{name.upper()}": str(value) for name, value in chosen.items()}

    def _start(self, package: str, settings: dict[str, Any]) -> subprocess.Popen[bytes]:
        environment = self.environment(**settings)
        log = (self.folder / f"{package}-{len(self.processes)}-{time.time_ns()}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", package], env=environment, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def _all_alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"a process ended with {process.returncode}:\n{self.log()}")


async def live_workers(client: httpx.AsyncClient) -> int:
    """How many workers /metrics shows; 0 while the api does not answer."""
    with contextlib.suppress(httpx.HTTPError):
        ready = await client.get("/ready")
        if ready.status_code == 200:
            text = (await client.get("/metrics")).text
            return len({labels["worker"] for labels, _ in samples(text, "caravan_slots_busy", {})})
    return 0


def samples(text: str, name: str, labels: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
    """(labels, value) of each sample called `name` whose labels include `labels`."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.labels, sample.value


@contextlib.asynccontextmanager
async def fleet(*, appendonly: bool = False, **settings: Any) -> AsyncIterator[Fleet]:
    """A Redis of its own and a Fleet on it; everything ends with the block."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cv", dir="/tmp")))
        server = RedisServer(redis_binaries()["redis"], folder, appendonly=appendonly)
        stack.callback(server.kill)
        server.start()
        fleet = Fleet(server, folder, **settings)
        stack.callback(fleet.close)
        try:
            yield fleet
        finally:
            await fleet.redis.aclose()


def body(text: str, **more: Any) -> dict[str, Any]:
    """A chat request of one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


async def stream_text(client: httpx.AsyncClient, request: dict[str, Any]) -> list[str]:
    """The content pieces of a streamed chat; fails on an error event or a missing [DONE]."""
    pieces, done = [], False
    async with client.stream("POST", CHAT, json={**request, "stream": True}) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                done = True
                continue
            pieces += content_of(line.removeprefix("data: "))
    assert done, "the stream did not end with [DONE]"
    return pieces


def content_of(data: str) -> list[str]:
    """The content of one chunk, as a list of none or one."""
    chunk = json.loads(data)
    assert "error" not in chunk, chunk
    deltas = [choice["delta"] for choice in chunk["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]
