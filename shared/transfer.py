"""Big bodies between processes that share no disk: numbered chunks through Redis, a few at a time.

The receiver gives credits, the sender waits for one before each chunk, so WINDOW chunks at most are
in Redis whatever the size of the body. Nothing here is durable: when either end dies the other one
hears nothing for STALL_S and gives up.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

from redis.asyncio import Redis

from shared import keys
from shared.errors import BY_CODE, Unavailable

CHUNK_BYTES = 1 << 20
WINDOW = 8
STALL_S = 120.0
WAIT_S = 5.0
NUMBER_BYTES = 8
CHUNK, END, BROKEN = b"c", b"e", b"x"


class Stalled(Unavailable):
    """The other end has gone, or is too slow."""

    code = "transfer_broken"


BY_CODE[Stalled.code] = Stalled


async def send(redis: Redis, name: str, chunks: AsyncIterable[bytes]) -> None:
    """All of `chunks`, to whoever receives `name`. Raises Stalled, and what `chunks` raises (then
    the receiver hears that it broke)."""
    number = 0
    try:
        async for chunk in _even(chunks):
            await _pop(redis, keys.credits(name))
            await _put(redis, name, CHUNK, number, chunk)
            number += 1
    except BaseException:
        await _put(redis, name, BROKEN, number, b"")
        raise
    await _put(redis, name, END, number, b"")


async def receive(redis: Redis, name: str) -> AsyncGenerator[bytes, None]:
    """What is sent as `name`, in chunks. Raises Stalled when it does not come to its end."""
    await _give(redis, name, WINDOW)
    wanted = 0
    try:
        while True:
            kind, number, chunk = _open(await _pop(redis, keys.chunks(name)))
            if number < wanted:  # sent again after a lost connection
                continue
            if kind == END and number == wanted:
                return
            if kind != CHUNK or number != wanted:
                raise Stalled("the transfer broke off: its sender has gone")
            wanted += 1
            yield chunk
            await _give(redis, name, 1)
    finally:
        await redis.delete(keys.chunks(name))


async def _even(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about CHUNK_BYTES."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


async def _put(redis: Redis, name: str, kind: bytes, number: int, chunk: bytes) -> None:
    await _push(redis, keys.chunks(name), [kind + number.to_bytes(NUMBER_BYTES, "big") + chunk])


def _open(raw: bytes) -> tuple[bytes, int, bytes]:
    head = 1 + NUMBER_BYTES
    return raw[:1], int.from_bytes(raw[1:head], "big"), raw[head:]


async def _give(redis: Redis, name: str, count: int) -> None:
    await _push(redis, keys.credits(name), [b"1"] * count)


async def _push(redis: Redis, key: str, values: list[bytes]) -> None:
    pipe = redis.pipeline(transaction=False)
    pipe.rpush(key, *values)
    pipe.expire(key, keys.TRANSFER_TTL_S)
    await pipe.execute()


async def _pop(redis: Redis, key: str) -> bytes:
    """The next value, once there is one. Raises Stalled."""
    until_s = time.monotonic() + STALL_S
    while time.monotonic() < until_s:
        if found := await redis.blpop([key], timeout=WAIT_S):  # type: ignore[misc,arg-type]
            return bytes(found[1])
    raise Stalled(f"the transfer stands still: nothing moved for {STALL_S:.0f} s")
