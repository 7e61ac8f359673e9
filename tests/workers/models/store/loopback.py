"""A server of our own on loopback that answers as a test tells it, well or badly."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import msgspec


class Asked(msgspec.Struct, frozen=True):
    """A request as it came; `headers` in lower case, `path` without its query."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def offset(self) -> int:
        """Where a Range starts."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `cut` closes the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    cut: int | None = None


Play = Callable[[Asked], Answer]


class Loopback:
    """The server's address and what it was asked."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.url = f"http://{host}"
        self.asked: list[Asked] = []

    def count(self, part: str) -> int:
        """Requests whose method and path contain `part`."""
        return sum(part in f"{asked.method} {asked.path}" for asked in self.asked)


@contextlib.contextmanager
def serve(play: Play) -> Iterator[Loopback]:
    """Answer on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()
                return
            self.close_connection = True

        def answer(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                parts.path,
                parts.query,
                {key.lower(): found for key, found in self.headers.items()},
                self._body(),
            )
            loopback.asked.append(asked)
            self.send(play(asked))

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            headers = {"Content-Length": str(len(answer.body)), **answer.headers}
            for key, found in headers.items():
                self.send_header(key, found)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    loopback = Loopback(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield loopback
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ranged(asked: Asked, whole: bytes, **more: Any) -> Answer:
    """`whole`, or the rest of it that a Range asks for."""
    if not asked.offset:
        return Answer(body=whole, **more)
    if asked.offset >= len(whole):
        return Answer(status=416, **more)
    span = f"bytes {asked.offset}-{len(whole) - 1}/{len(whole)}"
    headers = {"Content-Range": span, **more.pop("headers", {})}
    return Answer(status=206, body=whole[asked.offset :], headers=headers, **more)


def registry_of(store: Any, model_id: str) -> Play:
    """An honest registry that has one model of a store, under any name."""
    from workers.models.store.manifest import OCI_MANIFEST, parse

    raw = store.manifest_raw(model_id)
    blobs = {digest: store.blobs.path(digest).read_bytes() for digest in parse(raw).blobs}

    def play(asked: Asked) -> Answer:
        kind, _, reference = asked.path.rpartition("/")
        if kind.endswith("/manifests"):
            return Answer(body=raw, headers={"Content-Type": OCI_MANIFEST})
        if kind.endswith("/blobs") and reference in blobs:
            return ranged(asked, blobs[reference])
        return Answer(status=404)

    return play
