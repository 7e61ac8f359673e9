"""A client that is an ASGI server: it sees each write as it is sent, and leaves when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from api.app import Application


class Call:
    """One request in flight. `writes` are body parts in the order they were sent."""

    def __init__(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.writes: asyncio.Queue[bytes] = asyncio.Queue()
        self.done = asyncio.Event()
        self._gone = asyncio.Event()
        self._sent = False
        self._body = body
        self.reads = asyncio.Event()  # cleared: the client takes nothing
        self.reads.set()
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }

    def leave(self) -> None:
        """Close the connection."""
        self._gone.set()

    async def receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        await self.reads.wait()
        if message["body"]:
            self.writes.put_nowait(message["body"])
        if not message.get("more_body"):
            self.done.set()

    async def text(self) -> str:
        """All of the body, once it has ended."""
        await self.done.wait()
        parts = []
        while not self.writes.empty():
            parts.append(self.writes.get_nowait())
        return b"".join(parts).decode()


@asynccontextmanager
async def calling(
    app: Application,
    path: str = "/v1/chat/completions",
    *,
    body: object = None,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Call]:
    """A request under way; the client leaves at the end of the block, and the server has finished
    with it when the block is over."""
    call = Call(method, path, msgspec.json.encode(body), headers or {})
    task = asyncio.create_task(app(call.scope, call.receive, call.send))  # type: ignore[arg-type]
    try:
        yield call
    finally:
        call.leave()
        with suppress(asyncio.CancelledError):
            await task


def chat(text: str = "hi", **more: object) -> dict[str, object]:
    """A chat request's body."""
    return {"model": "smollm2", "messages": [{"role": "user", "content": text}], **more}
