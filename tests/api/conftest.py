"""The api on a Redis in memory, with a worker that has no model; and on a real loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
import uvicorn
from arq.connections import ArqRedis

from api.app import Application, create_app
from shared.settings import Settings
from tests.api.fleet import FakeWorker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Short waits, so that silences are looked into soon."""
    return msgspec.structs.replace(settings, heal_after_s=0.05, ping_s=60.0)


@pytest.fixture
async def worker(fake_redis: ArqRedis) -> FakeWorker:
    """A worker whose model is in the catalog."""
    worker = FakeWorker(ArqRedis(fake_redis.connection_pool))
    await worker.announce()
    return worker


@pytest.fixture
async def app(
    fake_redis: ArqRedis, settings: Settings, worker: FakeWorker
) -> AsyncIterator[Application]:
    """The application, running."""
    app = create_app(settings, fake_redis)
    async with app.service.running():
        yield app


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Whole answers from `app`, without a network."""
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://caravan") as client:
        yield client


class LoopbackServer(uvicorn.Server):
    """uvicorn inside the test's loop; signals stay the test runner's."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@contextlib.asynccontextmanager
async def serve(app: Application, *, drain_s: int = 5) -> AsyncIterator[str]:
    """The application on a loopback port, as the real process runs it. Answers its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=drain_s,
    )
    server = LoopbackServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def url(app: Application) -> AsyncIterator[str]:
    """A real server's URL."""
    async with serve(app) as url:
        yield url
