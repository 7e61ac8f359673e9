"""Steps of a load at a pace, the same for whoever is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def paced(step: Callable[[], Awaitable[None]], *, steps: int, pace_s: float) -> None:
    """So many steps, one every `pace_s`."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for _ in range(steps):
        await step()
        due_s = max(due_s + pace_s, loop.time() - pace_s)  # late steps are not all made up for
        await asyncio.sleep(max(0.0, due_s - loop.time()))
