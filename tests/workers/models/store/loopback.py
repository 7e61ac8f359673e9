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
    """What to send. `cut` closes the connection after so many bytes of the body; `hold` stops
    after so many until the other side is gone.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    cut: int | None = None
    hold: int | None = None


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


class Handler(BaseHTTPRequestHandler):
    """One connection to a Server."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()
            return
        self.close_connection = True

    def answer(self) -> None:
        parts = urlsplit(self.path)
        headers = {key.lower(): found for key, found in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        asked = Asked(self.command, parts.path, parts.query, headers, body)
        self.server.loopback.asked.append(asked)
        self.send(self.server.play(asked))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer

    def send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        for key, found in headers.items():
            self.send_header(key, found)
        self.end_headers()
        if self.command != "HEAD":
            self.write(answer)

    def write(self, answer: Answer) -> None:
        self.wfile.write(answer.body[: answer.hold if answer.cut is None else answer.cut])
        if answer.hold is not None:
            self.connection.recv(1)  # returns when the client closes
        self.close_connection = not (answer.hold is answer.cut is None)


class Server(ThreadingHTTPServer):
    """Answers what `play` says and remembers what it was asked."""

    daemon_threads = True

    def __init__(self, play: Play) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.play = play
        self.loopback = Loopback(f"127.0.0.1:{self.server_port}")


@contextlib.contextmanager
def serve(play: Play) -> Iterator[Loopback]:
    """Answer on a free port for as long as the block lasts."""
    server = Server(play)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.loopback
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
