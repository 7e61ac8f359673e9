"""What tests of several folders share: Redis, false and real, and settings of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import fakeredis
import pytest
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from shared import codec
from shared.connection import open_redis
from shared.settings import Settings
from tests.leaks import leaked_keys
from tests.servers import redis_binaries, run_redis

StartRedis = Callable[[], str]


@pytest.fixture(scope="session")
def start_redis() -> Iterator[StartRedis]:
    """Starts one more real Redis on a Unix socket and answers its URL; all end with the session."""
    with contextlib.ExitStack() as stack:

        def start() -> str:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cv", dir="/tmp")))
            return stack.enter_context(run_redis(redis_binaries()["redis"], folder))

        yield start


@pytest.fixture(scope="session")
def redis_url(start_redis: StartRedis) -> str:
    """URL of the session's shared Redis; `real_redis` empties it."""
    return start_redis()


@pytest.fixture
async def real_redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    """A client of an empty real Redis; the test fails if it leaves a key without a lifetime."""
    client = open_redis(redis_url)
    await client.flushall()
    yield client
    leaked = await leaked_keys(client)
    await client.aclose()
    assert not leaked, f"keys without TTL: {leaked}"


@pytest.fixture
async def fake_redis() -> AsyncIterator[ArqRedis]:
    """The same in memory. Further clients of one fake: `ArqRedis(fake_redis.connection_pool)`."""
    pool = ConnectionPool(
        connection_class=fakeredis.aioredis.FakeAsyncRedisConnection, server=fakeredis.FakeServer()
    )
    client = ArqRedis(
        pool,
        job_serializer=codec.serialize_for_arq,
        job_deserializer=codec.deserialize_for_arq,
    )
    yield client
    leaked = await leaked_keys(client)
    await client.aclose()
    await pool.disconnect()
    assert not leaked, f"keys without TTL: {leaked}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Defaults, with a data directory of the test's own."""
    return Settings(data_dir=str(tmp_path))
