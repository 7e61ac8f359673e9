"""The outermost layer: paths as clients write them, request ids, one log line a request.

- `/exp/vDD4.40/...` is what Docker Desktop's socket clients send: the prefix goes.
- `//` is cleaned silently. HEAD is answered as GET without the body.
- `x-request-id` comes in or is made, goes out and stands in every log line.
"""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

PROBES = frozenset({"/health", "/ready", "/metrics"})  # asked again and again by machines

PREFIX = re.compile(r"^/exp/vDD[^/]*(?=/|$)")
SLASHES = re.compile(r"/{2,}")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
REQUEST_ID_KEY = "caravan.request_id"
HEADERS = "caravan.headers"  # in the scope: response headers that handlers add


def respond_with(scope: Any, headers: dict[str, str]) -> None:
    """Add headers to whatever response this request gets."""
    scope.setdefault(HEADERS, {}).update(headers)


def request_id(scope: Any) -> str:
    """This request's id, for dialects that send it under another name too."""
    return str(scope[REQUEST_ID_KEY])


def clean_path(path: str) -> str:
    """The path as the routes know it: `/exp/vDD4.40//v1/models` -> `/v1/models`."""
    return PREFIX.sub("", SLASHES.sub("/", path)) or "/"


class Edge:
    """Wraps the application; everything but HTTP passes through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        try:
            await self._app(exchange.scope, receive, exchange.send)
        finally:
            exchange.log()
            structlog.contextvars.unbind_contextvars("request_id")


class _Exchange:
    """One request and its response, as they pass."""

    def __init__(self, scope: Any, send: Send) -> None:
        self.request_id = _given_or_new(scope)
        path = clean_path(scope["path"])
        self._head = scope["method"] == "HEAD"
        self._began_s = time.monotonic()
        self._method, self._path, self._status = scope["method"], path, 0
        self._send = send
        self.scope: Any = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            HEADERS: {},
            REQUEST_ID_KEY: self.request_id,
        }
        if self._head:
            self.scope["method"] = "GET"

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            extra = {"x-request-id": self.request_id, **self.scope[HEADERS]}
            lines = [(name.encode(), value.encode("latin-1")) for name, value in extra.items()]
            message = {**message, "headers": [*message["headers"], *lines]}
        elif message["type"] == "http.response.body" and self._head:
            message = {**message, "body": b""}
        await self._send(message)

    def log(self) -> None:
        say = log.debug if self._path in PROBES else log.info
        say(
            "request.finished",
            method=self._method,
            path=self._path,
            status=self._status,
            duration_ms=round(1000 * (time.monotonic() - self._began_s), 1),
            job=self.scope[HEADERS].get("x-caravan-job"),
        )


def _given_or_new(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return uuid.uuid4().hex
