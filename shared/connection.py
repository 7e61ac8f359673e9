"""Opening Redis, the same way everywhere."""

from __future__ import annotations

from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared import codec

OUTAGES = (RedisConnectionError, RedisTimeoutError, OSError)


def open_redis(url: str, *, retries: int = 1) -> ArqRedis:
    """A client of `redis://…` or `unix://…`; connects when first used. Also arq's pool.

    One retry covers a connection that went stale; longer outages are the caller's to answer.
    """
    pool = (
        ConnectionPool.from_url(
            url,
            socket_connect_timeout=2.0,
            socket_keepalive=True,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries),
            retry_on_error=[RedisConnectionError],
        )
        if not url.startswith("unix://")
        else ConnectionPool.from_url(
            url,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), retries),
            retry_on_error=[RedisConnectionError],
        )
    )
    client = ArqRedis(
        pool,
        job_serializer=codec.serialize_for_arq,
        job_deserializer=codec.deserialize_for_arq,
    )
    client.auto_close_connection_pool = True  # a given pool is not closed otherwise
    return client
