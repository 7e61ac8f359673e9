"""Which web pages may call: real patterns, and 403 for all others, as Docker Model Runner has it.

A request without an Origin is no browser's and passes. Pages of this machine are always welcome.
That an unknown page is refused, not just left without headers, also protects a server on localhost
from pages that point their own name at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = tuple(
    f"{scheme}://{host}{port}"
    for scheme in ("http", "https")
    for host in ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")  # noqa: S104  a page's, not ours
    for port in ("", ":*")
)
UNGUARDED = frozenset({"/", "/version", "/health", "/ready", "/metrics", "/logs"})
ANY = "*"
PART = r"[A-Za-z0-9.\-]*"
EXPOSED = b"x-request-id, request-id, x-caravan-job, x-queue-position, retry-after"
Header = tuple[bytes, bytes]


class Origins:
    """The pages that may call: `https://*.example.org`, `http://host:*`, `*` for all."""

    def __init__(self, configured: str) -> None:
        given = [part.strip() for part in configured.split(",") if part.strip()]
        self._all = ANY in given
        self._pattern = re.compile("|".join(map(_pattern, (*LOCAL, *given))), re.IGNORECASE)

    def __contains__(self, origin: str) -> bool:
        return self._all or self._pattern.fullmatch(origin) is not None


class Cors:
    """Wraps the application: preflights are answered here, foreign pages refused."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin") if scope["type"] == ScopeType.HTTP else None
        if origin is None:
            await self._app(scope, receive, send)
        elif origin not in self._origins:
            await self._foreign(scope, receive, send)
        elif scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
            await _answer(send, 204, _preflight(scope, origin))
        else:
            await self._app(scope, receive, _allowing(send, origin))

    async def _foreign(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in UNGUARDED:
            await self._app(scope, receive, send)
        else:
            await _answer(send, 403, [(b"vary", b"Origin")], b"Origin not allowed\n")


def _pattern(origin: str) -> str:
    return re.sub(r":\\\*$", ":[0-9]+", re.escape(origin)).replace(r"\*", PART)


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None


def _allowed(origin: str) -> list[Header]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]


def _preflight(scope: Scope, origin: str) -> list[Header]:
    """With credentials `*` names no header: what the browser asks for is named."""
    wanted = _header(scope, b"access-control-request-headers") or ANY
    return [
        *_allowed(origin),
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", wanted.encode("latin-1")),
    ]


def _allowing(send: Send, origin: str) -> Send:
    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [*_allowed(origin), (b"access-control-expose-headers", EXPOSED)]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return pass_on


async def _answer(send: Send, status: int, headers: Iterable[Header], body: bytes = b"") -> None:
    kind = [(b"content-type", b"text/plain; charset=utf-8")] if body else []
    length = [(b"content-length", str(len(body)).encode())] if status != 204 else []
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, *kind, *length],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
