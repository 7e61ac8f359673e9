"""An HTTP server for tests of clients: answers what it is told, remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """`replies` are (status, body), taken in turn; `asked` are the JSON bodies of POSTs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, str]] = []
        self.asked: list[dict[str, Any]] = []
        self.pause = threading.Event()  # clear it, and replies stay open until it is set
        self.pause.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._reply()

    def _reply(self) -> None:
        status, body = self.server.replies.pop(0)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())
        self.wfile.flush()
        self.server.pause.wait()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def sse(*pieces: str) -> str:
    """A stream of these pieces of text, with a comment before it, as the api writes it."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    chunks.append({"choices": [], "usage": {"total_tokens": 3}})
    lines = [": queued position=1", *(f"data: {json.dumps(chunk)}" for chunk in chunks)]
    return "\n\n".join([*lines, "data: [DONE]", ""])


@contextlib.contextmanager
def http_server() -> Iterator[Server]:
    """One, for as long as the block lasts."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.pause.set()
            server.shutdown()
            thread.join()
