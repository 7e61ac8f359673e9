"""The last requests to each model, for people who look what their programs send.

Off unless `record_requests` is set: prompts are nobody else's business. Records live in Redis for
keys.RECORD_TTL_S, RECORDS a model, so that every api process shows the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api import transcript
from api.edge import request_id
from api.paths import is_inference
from api.service import Service
from shared import keys
from shared.errors import UnknownModel

log = structlog.get_logger()

RECORDS = 10
MOST_BYTES = 4 * 1024 * 1024  # of one body; what comes after is not looked at
NEVER_ANSWERED = 408  # as Docker Model Runner counts a request whose answer never began
LOOK_S = 1.0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its answer. `request` and `response` are JSON in a string."""

    id: str
    model: str
    method: str
    url: str
    request: str
    response: str
    error: str
    timestamp: str
    status_code: int
    user_agent: str
    origin: str


class Recorded(msgspec.Struct, frozen=True):
    """What is told to those who listen: a model's ref, and its newest record."""

    model: str
    record: Record


_encode = msgspec.msgpack.Encoder().encode
_record = msgspec.msgpack.Decoder(Record).decode
_recorded = msgspec.msgpack.Decoder(Recorded).decode


async def records(redis: Redis, model: str) -> list[Record]:
    """A model's records, the oldest first."""
    rows = await redis.lrange(keys.records(model), 0, -1)  # type: ignore[misc]
    return [_record(row) for row in reversed(rows)]


async def listen(redis: Redis) -> AsyncGenerator[Recorded | None, None]:
    """Records as they are made, None in between and first of all, when listening has begun."""
    channel = redis.pubsub()
    try:
        await channel.subscribe(keys.RECORDED)
        while True:
            message = await channel.get_message(timeout=LOOK_S)
            if message is not None and message["type"] == "message":
                yield _recorded(message["data"])
            else:
                yield None
    finally:
        with anyio.CancelScope(shield=True):
            await channel.aclose()  # type: ignore[no-untyped-call]


class Recorder:
    """Wraps the application: requests to models are read along, and kept when they have ended."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not is_inference(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        tape = _Tape(scope, receive, send)
        try:
            await self._app(scope, tape.receive, tape.send)
        finally:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.ensure_future(self._keep(tape)))

    async def _keep(self, tape: _Tape) -> None:
        try:
            card = await self._service.fleet.find(tape.model)
            key = keys.records(card.ref)
            record = tape.record(model=card.ref)
            pipe = self._service.redis.pipeline(transaction=True)
            pipe.lpush(key, _encode(record))
            pipe.ltrim(key, 0, RECORDS - 1)
            pipe.expire(key, keys.RECORD_TTL_S)
            pipe.publish(keys.RECORDED, _encode(Recorded(card.ref, record)))
            await pipe.execute()
        except UnknownModel:
            return
        except (RedisError, OSError) as error:
            log.warning("record.not_kept", error=str(error))


class _Tape:
    """One exchange, as it passes."""

    def __init__(self, scope: Any, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._asked = bytearray()
        self._said = bytearray()
        self._status = NEVER_ANSWERED
        self._kind = ""
        self._began = datetime.now(UTC)
        self._headers = {name.lower(): value for name, value in scope["headers"]}

    async def receive(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request" and len(self._asked) < MOST_BYTES:
            self._asked += message.get("body", b"")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = {name.lower(): value for name, value in message["headers"]}
            self._kind = headers.get(b"content-type", b"").decode("latin-1")
        elif message["type"] == "http.response.body" and len(self._said) < MOST_BYTES:
            self._said += message.get("body", b"")
        await self._send(message)

    @property
    def model(self) -> str:
        """The model's name as it was asked for, "" where there is none to find."""
        try:
            asked = msgspec.json.decode(bytes(self._asked))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""
        name = (asked.get("name") or asked.get("model")) if isinstance(asked, dict) else ""
        return name if isinstance(name, str) else ""

    def record(self, *, model: str) -> Record:
        """All of it."""
        said = transcript.of_response(bytes(self._said), content_type=self._kind)
        good = self._status < 400
        return Record(
            id=request_id(self._scope),
            model=model,
            method=self._scope["method"],
            url=self._scope["path"],
            request=transcript.of_request(bytes(self._asked)),
            response=said if good else "",
            error="" if good else said,
            timestamp=self._began.isoformat().replace("+00:00", "Z"),
            status_code=self._status,
            user_agent=self._header(b"user-agent"),
            origin=self._header(b"x-request-origin"),
        )

    def _header(self, name: bytes) -> str:
        return str(self._headers.get(name, b"").decode("latin-1"))
