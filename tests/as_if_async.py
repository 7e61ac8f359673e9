"""A vendor's synchronous client with the face of the asynchronous one, so that one test is of both.

Every call runs in a thread. What it answers can be awaited, entered or gone through, whichever the
asynchronous client's user does there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

END = object()


class AsIfAsync:
    """Stands for `held`, a client or a part of one."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._held, name)
        return found if isinstance(found, str | int | type(None)) else AsIfAsync(found)

    def __call__(self, *args: Any, **more: Any) -> Call:
        return Call(self._held, args, more)

    async def __aiter__(self) -> AsyncIterator[Any]:
        each: Iterator[Any] = iter(self._held)
        while (found := await asyncio.to_thread(next, each, END)) is not END:
            yield found


class Call:
    """A call that runs when something is done with it."""

    def __init__(self, method: Any, args: Any, more: Any) -> None:
        self._method, self._args, self._more = method, args, more
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._answer().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for found in AsIfAsync(await self._run()):
            yield found

    async def __aenter__(self) -> AsIfAsync:
        self._entered = await self._run()
        return AsIfAsync(await asyncio.to_thread(self._entered.__enter__))

    async def __aexit__(self, *how: Any) -> None:
        await asyncio.to_thread(self._entered.__exit__, *how)

    async def _run(self) -> Any:
        return await asyncio.to_thread(self._method, *self._args, **self._more)

    async def _answer(self) -> Any:
        """A stream is for going through; anything else is as it is."""
        found = await self._run()
        return AsIfAsync(found) if isinstance(found, Iterator) else found
