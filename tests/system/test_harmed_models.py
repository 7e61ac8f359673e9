"""Harmed model files through a whole fleet: each is a clear error to who asks for it; the api and
its worker live, and a worker that the library takes down is replaced by its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.children import Child, our_python
from cli.supervisor import Keeper
from shared import keys
from tests.api.storehouse import lines
from tests.model.tiny_gguf import write_gemma3
from tests.system.fleet import CHAT, Fleet, fleet
from tests.workers.models.mutants import mutants

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(280)]

MUTANTS = 200
SMALL = {"slots": 2, "context": 64, "pool": "true", "docker_config": ""}


@asynccontextmanager
async def kept(house: Fleet) -> AsyncIterator[Keeper]:
    """A worker that is started again when it dies."""
    quiet = {**house.environment(), "GGML_NO_BACKTRACE": "1"}  # it would ask a debugger
    command, environment = our_python("workers", quiet)
    keeper = Keeper(Child(name="worker", command=command, environment=environment))
    await keeper.start()
    try:
        yield keeper
    finally:
        await keeper.stop(within_s=10, hurry=asyncio.Event())


async def listed(client: httpx.AsyncClient, *, models: int) -> None:
    """Return once so many models are known and a worker with a store is there."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            found = await client.get("/models")
            status = await client.get("/ready")
            if status.status_code == 200 and len(found.json()) == models:
                return
        await asyncio.sleep(0.05)


async def chat(client: httpx.AsyncClient, model: str) -> httpx.Response:
    ask = {"model": model, "prompt": "Hi", "max_tokens": 2, "temperature": 0}
    return await client.post(CHAT.replace("chat/", ""), json=ask)


async def outcome(client: httpx.AsyncClient, path: Path) -> str:
    """What pulling the file and asking it comes to: a stage and a code. It is deleted again."""
    pulled = await client.post("/models/create", json={"from": f"file:{path}"})
    if pulled.status_code != 200:
        return f"pull {pulled.status_code} {said(pulled)['code']}"
    assert lines(pulled)[-1]["type"] == "success", pulled.text
    answer = await chat(client, path.stem)
    assert (await client.delete(f"/models/{path.stem}")).status_code == 200
    return (
        "answered"
        if answer.status_code == 200
        else f"asked {answer.status_code} {said(answer)['code']}"
    )


def said(answer: httpx.Response) -> dict[str, Any]:
    """The error, which has words."""
    error: dict[str, Any] = answer.json()["error"]
    assert error["message"]
    return error


async def test_harmed_files_are_errors_and_nobody_dies(tmp_path: Path) -> None:
    settings = {"model": "", "model_roots": tmp_path, "store_dir": tmp_path / "store"}
    async with fleet(**SMALL, **settings) as house:
        api = house.api()
        async with (
            kept(house) as keeper,
            httpx.AsyncClient(base_url=house.url, timeout=None) as client,
        ):
            await listed(client, models=0)
            outcomes: Counter[str] = Counter()
            for name, data in mutants(tmp_path, MUTANTS):
                path = tmp_path / f"{name}.gguf"
                path.write_bytes(data)
                outcomes[await outcome(client, path)] += 1
                path.unlink()
            print(outcomes)
            assert (await client.get("/ready")).status_code == 200
            assert keeper.deaths == []
        assert api.poll() is None
        known = {"answered", "pull 422 unsupported_artifact", "asked 500 model_load_failed"}
        assert set(outcomes) <= known
        assert outcomes["pull 422 unsupported_artifact"] > MUTANTS / 2


async def test_a_worker_that_the_library_takes_down_is_replaced(tmp_path: Path) -> None:
    """The file changes behind our back into one on which llama.cpp aborts."""
    path = write_gemma3(tmp_path / "m.gguf")
    async with fleet(model=f"m={path}", **SMALL, store_dir=tmp_path / "store") as house:
        house.api()
        async with (
            kept(house) as keeper,
            httpx.AsyncClient(base_url=house.url, timeout=None) as client,
        ):
            await listed(client, models=1)
            first = keeper.pid
            harm(path)
            asking = asyncio.create_task(chat(client, "m"))
            while keeper.pid in (first, None):
                await asyncio.sleep(0.05)
            await house.redis.delete(keys.adopt("ai/m:latest"))  # else it runs out by itself
            answer = await asking
            assert keeper.deaths == [-signal.SIGABRT]
            assert answer.status_code == 500
            assert "the token '<0x01>' twice" in said(answer)["message"]


def harm(path: Path) -> None:
    """Two tokens become alike; the file looks as if nobody had touched it."""
    whole, times = path.read_bytes(), path.stat()
    with path.open("r+b") as file:
        file.write(whole.replace(b"<0x02>", b"<0x01>"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
