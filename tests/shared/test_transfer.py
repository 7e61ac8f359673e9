"""Big bodies through Redis: whole or an error, never many chunks at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from arq.connections import ArqRedis

from shared import keys, transfer
from shared.transfer import Stalled, receive, send

pytestmark = pytest.mark.redis


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def received(redis: ArqRedis, name: str) -> bytes:
    return b"".join([chunk async for chunk in receive(redis, name)])


@pytest.mark.parametrize("size", [0, 1, transfer.CHUNK_BYTES, 30 * transfer.CHUNK_BYTES + 7])
async def test_what_is_sent_is_received(real_redis: ArqRedis, size: int) -> None:
    whole = bytes(range(256)) * (size // 256 + 1)
    whole = whole[:size]
    parts = [whole[at : at + 300_001] for at in range(0, size, 300_001)]
    getting = asyncio.create_task(received(real_redis, "t"))
    await send(real_redis, "t", chunks(*parts))
    assert await getting == whole
    assert not await real_redis.exists(keys.chunks("t"))


async def test_only_a_window_is_in_redis(real_redis: ArqRedis) -> None:
    body = chunks(*[bytes(transfer.CHUNK_BYTES)] * (3 * transfer.WINDOW))
    sending = asyncio.create_task(send(real_redis, "t", body))
    got = receive(real_redis, "t")
    for _ in range(3):
        await anext(got)
        assert await real_redis.llen(keys.chunks("t")) <= transfer.WINDOW
    await got.aclose()
    sending.cancel()
    await asyncio.wait({sending})


async def test_a_repeated_chunk_is_dropped(real_redis: ArqRedis) -> None:
    getting = asyncio.create_task(received(real_redis, "t"))
    for number in (0, 0, 1, 0):
        raw = transfer.CHUNK + number.to_bytes(8, "big") + b"ab"[number : number + 1]
        await real_redis.rpush(keys.chunks("t"), raw)
    await real_redis.rpush(keys.chunks("t"), transfer.END + (2).to_bytes(8, "big"))
    assert await getting == b"ab"


async def test_a_sender_that_fails_is_heard(real_redis: ArqRedis) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(transfer.CHUNK_BYTES)
        raise ZeroDivisionError

    getting = asyncio.create_task(received(real_redis, "t"))
    with pytest.raises(ZeroDivisionError):
        await send(real_redis, "t", broken())
    with pytest.raises(Stalled):
        await getting


async def test_an_end_that_is_gone_is_noticed(
    real_redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "STALL_S", 0.05)
    monkeypatch.setattr(transfer, "WAIT_S", 0.01)
    with pytest.raises(Stalled, match="stands still"):
        await received(real_redis, "t")
    await real_redis.delete(keys.credits("t"))
    with pytest.raises(Stalled, match="stands still"):
        await send(real_redis, "t", chunks(b"x"))
