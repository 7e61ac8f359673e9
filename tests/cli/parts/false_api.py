"""A stand-in for the api: ready when a worker is, answers every chat alike, drains on SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOME = Path(os.environ["CARAVAN_DATA_DIR"])
CHUNK = 'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n'


def note(event: str) -> None:
    """Add a line to the diary that tests read."""
    with (HOME / "diary").open("a") as file:
        file.write(f"{event}\n")


class Handler(BaseHTTPRequestHandler):
    """GET answers 200 once a worker is there, POST streams three pieces."""

    def do_GET(self) -> None:
        self.send_response(200 if (HOME / "worker.ready").exists() else 503)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        for text in ("A row ", "of ", "camels."):
            self.wfile.write(CHUNK.format(text=text).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until SIGTERM."""
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["CARAVAN_PORT"])), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    note(f"api.pid {os.getpid()}")
    server.serve_forever()
    note("api.end")


if __name__ == "__main__":
    main()
