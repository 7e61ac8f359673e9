"""Transfers that several callers share: one runs, all watch, and it stops when nobody is left.

A slow watcher costs nothing: its mailbox keeps only the newest state of each layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from workers.models.remote.progress import Progress, Report

Result = TypeVar("Result")
Work = Callable[[Report], Awaitable[Result]]


class _Mailbox:
    """The newest Progress per layer, until they are taken."""

    def __init__(self, seen: dict[str, Progress]) -> None:
        self._unread = dict(seen)
        self._changed = asyncio.Event()
        self._changed.set()

    def put(self, progress: Progress) -> None:
        self._unread[progress.layer] = progress
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    async def wait(self) -> list[Progress]:
        await self._changed.wait()
        self._changed.clear()
        return self.take()

    def take(self) -> list[Progress]:
        unread, self._unread = list(self._unread.values()), {}
        return unread


class _Flight(Generic[Result]):
    """One running transfer and who watches it."""

    def __init__(self, work: Work[Result]) -> None:
        self._seen: dict[str, Progress] = {}
        self._boxes: set[_Mailbox] = set()
        self.task = asyncio.ensure_future(self._run(work))
        self.task.add_done_callback(self._landed)

    async def _run(self, work: Work[Result]) -> Result:
        return await work(self._report)

    def _report(self, progress: Progress) -> None:
        self._seen[progress.layer] = progress
        for box in self._boxes:
            box.put(progress)

    def _landed(self, task: asyncio.Future[Result]) -> None:
        if not task.cancelled():
            task.exception()  # seen here, so that an unwatched failure is not reported as lost
        for box in self._boxes:
            box.wake()

    def enter(self) -> _Mailbox:
        box = _Mailbox(self._seen)
        self._boxes.add(box)
        return box

    def leave(self, box: _Mailbox) -> bool:
        """Stop watching; whether anyone still does."""
        self._boxes.discard(box)
        return bool(self._boxes)


class Flights(Generic[Result]):
    """Running transfers by key. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[Hashable, _Flight[Result]] = {}
        self._tasks: set[asyncio.Future[Result]] = set()

    async def join(
        self, key: Hashable, work: Work[Result]
    ) -> AsyncGenerator[Progress | Result, None]:
        """Watch the transfer of this key, started if nobody did: Progress values, then the result.

        Raises what the transfer raised. Leaving early (aclose) ends it only for the last watcher.
        """
        flight = self._running.get(key)
        if flight is None or flight.task.done():
            flight = self._begin(key, work)
        box = flight.enter()
        try:
            while not flight.task.done():
                for progress in await box.wait():
                    yield progress
            for progress in box.take():
                yield progress
            yield flight.task.result()
        finally:
            if not flight.leave(box):
                self._end(key, flight)

    def _begin(self, key: Hashable, work: Work[Result]) -> _Flight[Result]:
        flight = self._running[key] = _Flight(work)
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        return flight

    def _end(self, key: Hashable, flight: _Flight[Result]) -> None:
        if self._running.get(key) is flight:
            del self._running[key]
        flight.task.cancel()

    async def close(self) -> None:
        """End every transfer and wait for it."""
        tasks = list(self._tasks)
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
