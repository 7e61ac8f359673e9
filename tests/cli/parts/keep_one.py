"""Keeps one sleeping child and notes its pid in the file given; waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cli.children import Child
from cli.supervisor import Keeper


async def main(note: Path) -> None:
    """Until killed."""
    keeper = Keeper(
        Child(name="child", command=(sys.executable, "-c", "import time; time.sleep(3600)"))
    )
    await keeper.start()
    part = note.with_suffix(".part")
    part.write_text(str(keeper.pid))
    part.rename(note)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
