"""Which keys a test left in Redis without a lifetime, though they should have one."""

from __future__ import annotations

import re

from redis.asyncio import Redis

# Those of shared/keys.py whose docstring says "No TTL": queues end by being emptied, the rest is
# configuration or an account.
LIVES_FOR_EVER = re.compile(
    r"caravan:(\{.*\}:(interactive|batch|leases)|catalog|configs|tenant:.*|key:[0-9a-f]{64})"
)


async def leaked_keys(redis: Redis) -> list[str]:
    """Keys that would stay for ever and are not meant to, sorted."""
    names = sorted([name.decode() async for name in redis.scan_iter(count=1000)])
    suspects = [name for name in names if not LIVES_FOR_EVER.fullmatch(name)]
    return [name for name in suspects if await redis.ttl(name) == -1]
