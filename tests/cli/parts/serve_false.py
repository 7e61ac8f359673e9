"""`caravan serve` with stand-ins for api and worker, for tests to start and to kill."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console

from cli.problems import Problem
from cli.serve import serve
from shared import logs, settings

FALSE = {"api": "false_api", "worker": "false_worker"}


def main() -> None:
    """As cli.main does it."""
    chosen = settings.read()
    logs.configure(chosen, process="serve")
    try:
        asyncio.run(
            serve(chosen, settings.environment(), console=Console(width=100), modules=FALSE)
        )
    except Problem as problem:
        sys.exit(f"caravan: {problem}")


if __name__ == "__main__":
    main()
