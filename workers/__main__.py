"""`python -m workers`: one worker process. Configured by CARAVAN_* variables."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from redis.exceptions import RedisError

from shared import logs, settings
from shared.errors import CaravanError


def main() -> None:
    """Run until told to stop; what cannot start says so in one sentence."""
    try:
        chosen = settings.read()
        logs.configure(chosen, process="worker")
        from workers.main import main as work  # late: loads llama.cpp

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work(chosen))
    except (settings.BadSetting, CaravanError, RedisError, OSError) as error:
        sys.exit(f"caravan worker: {error}")


if __name__ == "__main__":
    main()
