"""A stream of the event loop, read as a file by a thread."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

from shared.model_errors import BadArchive

CHUNK_BYTES = 1 << 20


class Inlet(io.RawIOBase):
    """Made on the loop's thread, read from another; `stop` makes the reader fail at its next
    read. What the chunks raise, `read` raises."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._held = memoryview(b"")
        self._stopped = False

    def readable(self) -> bool:
        """It is."""
        return True

    def stop(self) -> None:
        """Nobody sends any more."""
        self._stopped = True

    def readinto(self, buffer: object) -> int:
        """As files do: some bytes, 0 at the end."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if not self._held:
            self._held = memoryview(self._next())
        count = min(len(target), len(self._held))
        target[:count] = self._held[:count]
        self._held = self._held[count:]
        return count

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer at the end only."""
        parts = bytearray()
        while size < 0 or len(parts) < size:
            piece = super().read(CHUNK_BYTES if size < 0 else size - len(parts))
            if not piece:
                break
            parts += piece
        return bytes(parts)

    def _next(self) -> bytes:
        if self._stopped:
            raise BadArchive("model load interrupted: its sender has gone")
        return asyncio.run_coroutine_threadsafe(self._take(), self._loop).result()

    async def _take(self) -> bytes:
        return await anext(self._chunks, b"")
