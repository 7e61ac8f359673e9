"""A process that pulls one model into a store: started, and killed, by tests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from workers.models.remote.options import RemoteOptions
from workers.models.remote.pull import open_pulls
from workers.models.remote.pulling import Pulled
from workers.models.store.store import open_store


async def main(root: str, name: str) -> None:
    """Prints the model's ID when it is here."""
    async with open_pulls(open_store(Path(root)), RemoteOptions()) as pulls:
        async for last in pulls.pull(name):
            if isinstance(last, Pulled):
                print(last.id)


asyncio.run(main(*sys.argv[1:]))
