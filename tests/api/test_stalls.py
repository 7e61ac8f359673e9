"""A client that takes nothing is noticed; one that is slow is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.stalls import Stalled, watched

MESSAGE: Any = {"type": "http.response.body", "body": b"x"}


async def test_a_write_that_never_ends_cuts_the_block() -> None:
    ended = asyncio.Event()

    async def never(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(Stalled):
        async with watched(never, limit_s=0.01) as send, asyncio.TaskGroup() as group:
            group.create_task(send(MESSAGE))
    assert ended.is_set()


async def test_silence_is_no_stall() -> None:
    sent: list[Any] = []

    async def take(message: Any) -> None:
        sent.append(message)

    async with watched(take, limit_s=0.001) as send:
        await send(MESSAGE)
        for _ in range(20):
            await asyncio.sleep(0.001)  # nothing is sent for many limits
        await send(MESSAGE)
    assert sent == [MESSAGE, MESSAGE]


async def test_other_timeouts_stay_what_they_are() -> None:
    async def take(_: Any) -> None: ...

    with pytest.raises(TimeoutError):
        async with watched(take, limit_s=60.0):
            raise TimeoutError
