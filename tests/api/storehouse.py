"""The api and a worker's store, without a model, on one real Redis: HTTP in, files out."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
from arq.connections import ArqRedis

from api.app import Application, create_app
from shared import presence
from shared.presence import WorkerCard
from shared.queue import Queue
from shared.setting_values import listed
from shared.settings import Settings
from tests.workers.models.store.files import gguf_bytes
from workers.models.remote import options
from workers.models.store.package import package
from workers.models.store.store import Store, StoredModel
from workers.store_jobs import Keeper, open_keeper

HASTY = options.Retry(attempts=3, first_s=0.001, longest_s=0.01)


class Storehouse:
    """`client` speaks to the api; `store` is the worker's."""

    def __init__(self, client: httpx.AsyncClient, keeper: Keeper, app: Application) -> None:
        assert keeper.depot is not None
        self.client = client
        self.keeper = keeper
        self.depot = keeper.depot
        self.store: Store = keeper.depot.store
        self.app = app

    async def add(self, folder: Path, ref: str, *, seed: str = "a", **more: Any) -> StoredModel:
        """A small model, stored and in the catalog."""
        path = folder / f"{seed}.gguf"
        path.write_bytes(gguf_bytes(seed=seed, **more))
        model = package(self.store, [path], ref, created_s=1_700_000_000)
        await self.depot.announce()
        return self.store.get(model.id)

    async def create(self, name: str, **headers: str) -> httpx.Response:
        """POST /models/create."""
        return await self.client.post("/models/create", json={"from": name}, headers=headers)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The JSON objects of a stream, escaped or not."""
    return [json.loads(html.unescape(line)) for line in answer.text.splitlines()]


@asynccontextmanager
async def storehouse(redis: ArqRedis, settings: Settings) -> AsyncIterator[Storehouse]:
    """Both, running."""
    app = create_app(settings, redis)
    async with _keeper(settings, redis) as keeper, app.service.running():
        task = asyncio.create_task(keeper.run())
        await _show(redis, keeper)
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://caravan") as client:
            yield Storehouse(client, keeper, app)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def keeping(redis: ArqRedis, settings: Settings) -> AsyncIterator[Keeper]:
    """One more worker on the same store."""
    async with _keeper(settings, redis) as keeper:
        task = asyncio.create_task(keeper.run())
        yield keeper
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _keeper(settings: Settings, redis: ArqRedis) -> AbstractAsyncContextManager[Keeper]:
    queue = Queue(redis, lease_ms=settings.lease_ms)
    hasty = options.RemoteOptions(
        retry=HASTY,
        file_roots=(settings.home / "roots",),
        mirrors=listed(settings.registry_mirrors),
    )
    return open_keeper(settings, redis, queue, "w1", options=hasty)


async def _show(redis: ArqRedis, keeper: Keeper) -> None:
    """The worker's card, for as long as a test lasts."""
    card = WorkerCard(
        id="w1", host="here", pid=1, device="cpu", started_ms=0, store=keeper.store[0]
    )
    await presence.show(redis, card)
    await redis.expire("caravan:worker:w1", 600)


def hasty(settings: Settings) -> Settings:
    """Silences are looked into soon."""
    return msgspec.structs.replace(settings, heal_after_s=0.1, docker_config="")
