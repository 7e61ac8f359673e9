"""Starting and watching real processes in tests."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).resolve().parent / "parts"
SERVE_FALSE = (sys.executable, str(PARTS / "serve_false.py"))
PATIENCE_S = 30.0


def until(condition: Callable[[], object], *, what: str) -> None:
    """Return once `condition` holds; fail after PATIENCE_S seconds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Served:
    """A `caravan serve` with stand-ins for api and worker, and what it left in its folder."""

    def __init__(self, home: Path, *, command: tuple[str, ...] = SERVE_FALSE, **more: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        clean = {name: text for name, text in os.environ.items() if "CARAVAN" not in name}
        environment = {
            **clean,
            "PYTHONPATH": os.pathsep.join((str(PARTS), str(ROOT))),
            "CARAVAN_DATA_DIR": str(home),
            "CARAVAN_PORT": "0",
            **more,
        }
        descriptor, name = tempfile.mkstemp(dir=home.parent, prefix="output")
        self._path, self._out = Path(name), os.fdopen(descriptor, "wb")
        self.process = subprocess.Popen(
            command, env=environment, stdout=self._out, stderr=subprocess.STDOUT
        )

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self._path.read_text()

    @property
    def diary(self) -> list[str]:
        """What the stand-ins noted, in order."""
        path = self.home / "diary"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self, who: str) -> list[int]:
        """Process ids of `api` or `worker`, one a life."""
        return [int(line.split()[1]) for line in self.diary if line.startswith(f"{who}.pid")]

    def redis_pid(self) -> int:
        """The Redis that runs as a child, 0 when there is none."""
        children = psutil.Process(self.process.pid).children()
        return next((child.pid for child in children if "redis" in child.name()), 0)

    def wait_ready(self) -> None:
        """Until the banner is there."""
        until(
            lambda: "Caravan is ready" in self.output or self.process.poll() is not None,
            what="the banner",
        )
        assert self.process.poll() is None, self.output

    def end(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        pids = [*self.pids("api"), *self.pids("worker")]
        if self.process.poll() is None:
            pids.append(self.redis_pid() or self.process.pid)
            self.process.kill()
            self.process.wait()
        self._out.close()
        for pid in filter(alive, pids):
            os.kill(pid, 9)
