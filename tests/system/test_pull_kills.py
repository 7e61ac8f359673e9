"""A pull survives the death of its worker, again and again: bytes resume, the digest is right."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from arq.connections import ArqRedis

from api.app import create_app
from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.storehouse import hasty, lines
from tests.registry import run_registry
from tests.workers.models.store.files import gguf_bytes
from workers.models.remote.options import RemoteOptions
from workers.models.remote.push import open_pushes
from workers.models.store.blobs import INCOMPLETE
from workers.models.store.package import package
from workers.models.store.store import open_store

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.timeout(150)]
KILLS = 20
SIZE = 64_000_000


class Keepers:
    """One worker at a time, killed and replaced."""

    def __init__(self, parent: subprocess.Popen[str], redis_url: str, data_dir: Path) -> None:
        self._parent = parent
        self._order = f"{redis_url} {data_dir}\n"
        self.pid = 0

    async def start(self) -> None:
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(self._order)
        self._parent.stdin.flush()
        self.pid = int(await asyncio.to_thread(self._parent.stdout.readline))

    async def replace(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        await self.start()


@contextmanager
def parent() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.workers.store_parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def published(registry: str, folder: Path) -> tuple[str, str]:
    """A model at the registry: its name and ID."""
    store, name = open_store(folder / "source"), f"{registry}/org/big:v1"
    path = folder / "big.gguf"
    path.write_bytes(gguf_bytes(SIZE, seed="big"))
    model = package(store, [path], name)
    async with open_pushes(store, RemoteOptions()) as pushes:
        async for _ in pushes.push(name):
            continue
    return name, model.id


@asynccontextmanager
async def api(redis: ArqRedis, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(hasty(settings), redis)
    async with (
        app.service.running(),
        serve(app) as url,
        httpx.AsyncClient(base_url=url, timeout=120) as client,
    ):
        yield client


def arrived(store: Path) -> int:
    """Bytes of unfinished blobs; one may get its name while we look."""
    found = 0
    for path in store.glob(f"blobs/sha256/*{INCOMPLETE}"):
        with suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


async def killed_at(keepers: Keepers, store: Path, at: int, task: asyncio.Task[object]) -> bool:
    """Kill the worker when so many bytes are here; False if the pull was done before."""
    while not task.done():
        if arrived(store) >= at:
            await keepers.replace()
            return True
        await asyncio.sleep(0.001)
    return False


async def test_twenty_kills(
    real_redis: ArqRedis, redis_url: str, settings: Settings, tmp_path: Path
) -> None:
    chance, kills, pulls, store = random.Random(20), 0, 0, settings.store
    with run_registry(tmp_path) as registry, parent() as process:
        name, model_id = await published(registry, tmp_path)
        keepers = Keepers(process, redis_url, Path(settings.data_dir))
        await keepers.start()
        async with api(real_redis, settings) as client:
            while not await ready(client):
                await asyncio.sleep(0.01)
            while kills < KILLS:
                task = asyncio.create_task(client.post("/models/create", json={"from": name}))
                while kills < KILLS:
                    at = arrived(store) + chance.randrange(1, SIZE // 8)
                    if not await killed_at(keepers, store, at, task):
                        break
                    kills += 1
                told, pulls = lines(await task), pulls + 1
                assert told[-1]["type"] == "success", told[-1]
                assert (await client.get(f"/models/{name}")).json()["id"] == model_id
                bundle = open_store(store).bundle(name).model
                assert bundle.read_bytes() == (tmp_path / "big.gguf").read_bytes()
                assert (await client.delete(f"/models/{name}")).status_code == 200
        os.kill(keepers.pid, signal.SIGKILL)
    assert kills == KILLS
    assert pulls < KILLS  # a pull lived through several kills


async def ready(client: httpx.AsyncClient) -> bool:
    """Whether a worker with a store is there."""
    return (await client.post("/models/load", content=b"no tar")).status_code == 400
