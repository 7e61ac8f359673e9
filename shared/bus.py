"""Frames and orders over pub/sub, and the journal behind them. The only subscriber's code.

Pub/sub may lose messages, so whoever listens is told each time a subscription opens (also again,
after a lost connection) and reads the journal from the number it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import codec, keys
from shared.events import Frame

log = structlog.get_logger()

RETRY_FIRST_S = 0.05
RETRY_MOST_S = 2.0
QUIET_S = 10.0  # how long a subscription may say nothing before it is pinged


async def read_journal(redis: Redis, job: str, *, start: int = 1) -> list[Frame]:
    """A job's frames that hold event `start` or later ones, oldest first."""
    rows = await redis.xrange(keys.journal(job), min="-" if start <= 1 else f"{start}-0")
    frames = [codec.decode_frame(fields[b"f"]) for _, fields in rows]
    if start > 1 and (not frames or frames[0].number > start):
        frames = [*await _frame_holding(redis, job, start), *frames]
    return frames


async def _frame_holding(redis: Redis, job: str, number: int) -> list[Frame]:
    """The frame that began before event `number`, if it reaches as far."""
    rows = await redis.xrevrange(keys.journal(job), max=f"{number - 1}-0", count=1)
    frames = [codec.decode_frame(fields[b"f"]) for _, fields in rows]
    return [frame for frame in frames if frame.next_number > number]


async def last_number(redis: Redis, job: str) -> int:
    """The number of the next event to be written; 1 for an empty journal."""
    rows = await redis.xrevrange(keys.journal(job), count=1)
    return codec.decode_frame(rows[0][1][b"f"]).next_number if rows else 1


async def listen(
    redis: Redis,
    channels: Sequence[str],
    *,
    patterns: Sequence[str] = (),
    on_message: Callable[[bytes, bytes], None],
    on_open: Callable[[], Awaitable[None]],
) -> None:
    """Hear `channels`, and all that match `patterns`, until cancelled: `on_open` after each
    subscription, then `on_message(channel, data)` for each message. A lost connection is opened
    again, for ever."""
    delay_s = RETRY_FIRST_S
    while True:
        try:
            async with redis.pubsub(ignore_subscribe_messages=False) as pubsub:
                await pubsub.subscribe(*channels)
                if patterns:
                    await pubsub.psubscribe(*patterns)
                confirmed = 0
                while True:
                    message = await pubsub.get_message(timeout=QUIET_S)
                    if message is None:
                        await pubsub.ping()
                    elif message["type"] in ("subscribe", "psubscribe"):
                        confirmed += 1
                        if confirmed == len(channels) + len(patterns):
                            await on_open()
                            delay_s = RETRY_FIRST_S
                    elif message["type"] in ("message", "pmessage"):
                        on_message(message["channel"], message["data"])
        except (RedisError, OSError) as error:
            log.warning("subscription.lost", channels=list(channels), error=str(error))
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MOST_S)
