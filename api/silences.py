"""Streams that have heard nothing for a while, asked about together.

Nearly always there is nothing to hear. To read each one's journal and state, three round trips, was
most of what thousands of slow streams cost; one script answers for all that ask at about the same
time, and only who has missed something reads.
"""

from __future__ import annotations

import asyncio

from shared.queue import Queue

GATHER_S = 0.02  # how long a question waits for others
MOST = 256  # questions a script; it holds up everybody else's commands while it runs


class Silences:
    """Of one process."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._batch: _Batch | None = None  # that can still be joined

    async def missed(self, job: str, *, known: int) -> bool:
        """Whether a reader of `job` that has the frames up to number `known` (0: none) must look:
        there are more, or the job is gone or was cancelled. Raises redis.RedisError."""
        if self._batch is None:
            self._batch = _Batch()
            self._batch.answer = asyncio.create_task(self._ask(self._batch))
        batch, place = self._batch, len(self._batch.known)
        batch.known.append((job, known))
        if len(batch.known) == MOST:
            self._batch = None
        return place in await asyncio.shield(batch.answer)  # who leaves takes no answer with him

    async def _ask(self, batch: _Batch) -> set[int]:
        await asyncio.sleep(GATHER_S)
        if self._batch is batch:
            self._batch = None
        return await self._queue.unheard(batch.known)


class _Batch:
    """Questions of one script, and the places of those whose answer is yes."""

    answer: asyncio.Task[set[int]]

    def __init__(self) -> None:
        self.known: list[tuple[str, int]] = []
