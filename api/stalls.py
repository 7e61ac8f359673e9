"""A client that takes nothing any more, noticed by one timer a stream.

A timer for every write, as sse-starlette sets it, costs as much as writing a token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar.types import Message, Send


class Stalled(Exception):
    """A write has waited too long."""


@asynccontextmanager
async def watched(send: Send, *, limit_s: float) -> AsyncIterator[Send]:
    """`send`, watched: when one call of it waits `limit_s` or longer, the block is cut and raises
    Stalled, after at most twice that."""
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    timer = loop.call_later(limit_s, lambda: look())
    waits_since_s: float | None = None

    async def send_on(message: Message) -> None:
        nonlocal waits_since_s
        waits_since_s = loop.time()
        await send(message)
        waits_since_s = None

    def look() -> None:
        nonlocal timer
        if waits_since_s is not None and loop.time() - waits_since_s >= limit_s:
            limit.reschedule(loop.time())
        else:
            timer = loop.call_later(limit_s, look)

    try:
        async with limit:
            yield send_on
    except TimeoutError:
        if limit.expired():
            raise Stalled from None
        raise
    finally:
        timer.cancel()
