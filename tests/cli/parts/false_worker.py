"""A stand-in for a worker: says it is ready, checks on SIGTERM that Redis is still there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from redis import Redis

HOME = Path(os.environ["CARAVAN_DATA_DIR"])


def note(event: str) -> None:
    """Add a line to the diary that tests read."""
    with (HOME / "diary").open("a") as file:
        file.write(f"{event}\n")


def main() -> None:
    """Wait for SIGTERM; or do what FALSE_WORKER says."""
    if os.environ.get("FALSE_WORKER") == "refuse":
        sys.exit("caravan worker: this model is too large")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if os.environ.get("FALSE_WORKER") == "linger":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    redis = Redis.from_url(os.environ["CARAVAN_REDIS_URL"])
    note(f"worker.pid {os.getpid()}")
    redis.incr("lives")
    (HOME / "worker.ready").touch()
    signal.sigwait({signal.SIGTERM} if "FALSE_WORKER" not in os.environ else {signal.SIGUSR1})
    redis.ping()
    note("worker.end")


if __name__ == "__main__":
    main()
