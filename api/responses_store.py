"""Responses that clients come back for: kept in Redis for `responses_ttl_s`, per tenant.

Each is kept once, with its own input and the ids of those before it; continuing a conversation
refreshes all of it. Deleting one takes it out of every conversation it was part of.
"""

from __future__ import annotations

from typing import Any

import msgspec
from redis.asyncio import Redis

from shared import keys
from shared.requests import Lane

Json = dict[str, Any]


class Background(msgspec.Struct, frozen=True, kw_only=True):
    """How to find and to tell what runs in the background: its job's model and lane, and the form
    its reasoning was wanted in."""

    model: str
    lane: Lane
    summarise: bool
    seal: bool


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """`body` is the response as its client got it, JSON; `before` are the ids it continues, the
    oldest first. Of one in the background that has not ended, as far as is known here, `body` is
    its beginning and `open` true."""

    body: bytes
    input: list[Json]
    before: tuple[str, ...] = ()
    background: Background | None = None
    open: bool = False

    @property
    def items(self) -> list[Json]:
        """Input and output."""
        return [*self.input, *_output(self.body)]


class Lost(Exception):
    """A part of a conversation is no longer there; `response` is its id."""

    def __init__(self, response: str) -> None:
        super().__init__(response)
        self.response = response


_decode = msgspec.msgpack.Decoder(StoredResponse).decode
_encode = msgspec.msgpack.Encoder().encode


class ResponsesStore:
    """One tenant's responses. Raises redis.RedisError."""

    def __init__(self, redis: Redis, *, tenant: str, ttl_s: int) -> None:
        self._redis = redis
        self._tenant = tenant
        self._ttl_s = ttl_s

    async def save(self, response: str, stored: StoredResponse) -> None:
        """Keep it; while it is open, as long as its job may wait too."""
        life_s = self._ttl_s + keys.JOB_TTL_S if stored.open else self._ttl_s
        await self._redis.set(self._key(response), _encode(stored), ex=life_s)

    async def settle(self, response: str, stored: StoredResponse) -> None:
        """Keep it in the place of what is there; nothing where that was deleted."""
        await self._redis.set(self._key(response), _encode(stored), ex=self._ttl_s, xx=True)

    async def load(self, response: str) -> StoredResponse | None:
        """One response, None when there is none."""
        row = await self._redis.get(self._key(response))
        return _decode(row) if row is not None else None

    async def conversation(self, last: str) -> list[StoredResponse]:
        """The response and all it continues, the oldest first, their lives refreshed. Raises Lost,
        which names the first one missing."""
        stored = await self.load(last)
        if stored is None:
            raise Lost(last)
        chain = (*stored.before, last)
        pipe = self._redis.pipeline(transaction=False)
        for response in chain:
            pipe.getex(self._key(response), ex=self._ttl_s)
        rows = await pipe.execute()
        for response, row in zip(chain, rows, strict=True):
            if row is None:
                raise Lost(response)
        return [_decode(row) for row in rows]

    async def delete(self, response: str) -> bool:
        """Forget it; False when there is none."""
        return bool(await self._redis.delete(self._key(response)))

    def _key(self, response: str) -> str:
        return keys.response(self._tenant, response)


def _output(body: bytes) -> list[Json]:
    found: list[Json] = msgspec.json.decode(body)["output"]
    return found
