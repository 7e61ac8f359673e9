"""One blob from anywhere into the store: resumed, retried, and named only when its digest is right.

One writer at a time: the lock of the blob's key. Whoever waits for it shows how far the other is,
and finds the blob done or goes on with its partial.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import msgspec
from filelock import Timeout

from shared.model_errors import BadDigest, RemoteDown
from workers.models.remote.client import as_down, asked_s
from workers.models.remote.options import Retry
from workers.models.store import digests, disk
from workers.models.store.blobs import Blobs, Partial

POLL_S = 0.1
Opener = Callable[[int], AbstractAsyncContextManager[httpx.Response]]
Show = Callable[[int, int], None]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A blob to get. `key` (64 hex digits) names its partial; unknown: digest "", size None."""

    key: str
    digest: str = ""
    size: int | None = None


def wanted(digest: str, size: int | None) -> Wanted:
    """A blob known by its digest."""
    return Wanted(key=digests.hex_of(digest), digest=digest, size=size)


async def fetch(blobs: Blobs, want: Wanted, open_at: Opener, *, retry: Retry, show: Show) -> str:
    """Bring the blob here; its digest. `show(done, size)` hears every chunk.

    BadDigest for wrong bytes, RemoteDown after the last retry, NoSpace, what `open_at` raises.
    """
    async with _turn(blobs, want, show):
        if want.digest and blobs.has(want.digest, want.size):
            blobs.touch(want.digest)
            return _shown(blobs, want.digest, show)
        try:
            digest = await _fill(blobs, want, open_at, retry, show)
        except _Stale:
            digest = await _fill(blobs, want, open_at, retry, show)
        return _shown(blobs, digest, show)


def _shown(blobs: Blobs, digest: str, show: Show) -> str:
    size = blobs.path(digest).stat().st_size
    show(size, size)
    return digest


@asynccontextmanager
async def _turn(blobs: Blobs, want: Wanted, show: Show) -> AsyncIterator[None]:
    """Hold the key's lock, waiting for another process or task that has it."""
    lock = blobs.lock(want.key)
    while True:
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            show(blobs.partial_bytes(want.key), want.size or 0)
            await asyncio.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


class _Stale(Exception):
    """What an earlier attempt left did not fit; it is gone now, and a fresh start may work."""


async def _fill(blobs: Blobs, want: Wanted, open_at: Opener, retry: Retry, show: Show) -> str:
    partial = blobs.open_partial(want.key, limit=want.size)
    try:
        while await asyncio.to_thread(partial.rehash):
            pass
        resumed = partial.resumed
        await _receive_all(partial, want, open_at, retry, show)
        return await asyncio.to_thread(partial.finish, want.digest or None)
    except (BadDigest, FileNotFoundError) as error:
        # An old partial, or a purge that took the file from under us: once more from zero.
        if isinstance(error, FileNotFoundError) or resumed:
            raise _Stale from error
        raise
    finally:
        partial.close()


async def _receive_all(
    partial: Partial, want: Wanted, open_at: Opener, retry: Retry, show: Show
) -> None:
    """Attempts until the bytes are complete; getting further than ever starts the count again."""
    failures, furthest = 0, partial.size
    while not _complete(partial, want):
        try:
            await _receive(partial, want, open_at, show)
            return
        except (httpx.RequestError, RemoteDown) as error:
            failures = 1 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if failures >= retry.attempts:
                raise as_down(error) from error
            await asyncio.sleep(retry.wait_s(failures, asked_s=asked_s(error)))


def _complete(partial: Partial, want: Wanted) -> bool:
    """Whether all is here already: a crash may come between the last byte and the name."""
    if want.size is None:
        return partial.size > 0 and partial.digest == want.digest
    return partial.size == want.size and partial.size > 0


async def _receive(partial: Partial, want: Wanted, open_at: Opener, show: Show) -> None:
    """One request's bytes, appended. RemoteDown when it ends early."""
    async with open_at(partial.size) as response:
        size = _expected_size(partial, want, response)
        disk.require_space(partial.folder, max(0, (size or 0) - partial.size))
        show(partial.size, size or 0)
        async for chunk in response.aiter_raw():
            await asyncio.to_thread(partial.append, chunk)
            show(partial.size, size or partial.size)
    if size is not None and partial.size < size:
        raise RemoteDown(
            f"{response.url.host} broke off after {partial.size} of {size} bytes; try again"
        )


def _expected_size(partial: Partial, want: Wanted, response: httpx.Response) -> int | None:
    """Size of the whole blob; the partial starts over when the answer is not its continuation."""
    if response.status_code == 416:
        partial.restart()
        raise RemoteDown(f"{response.url.host} has fewer bytes than we have; starting over")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RemoteDown(f"{response.url.host} compresses what we asked for as it is")
    starts_at = _starts_at(response)
    if starts_at != partial.size:
        partial.restart()
        if starts_at:
            raise RemoteDown(f"{response.url.host} sent another range than we asked for")
    length = response.headers.get("Content-Length", "")
    told = partial.size + int(length) if length.isdigit() else None
    return want.size if want.size is not None else told


def _starts_at(response: httpx.Response) -> int:
    if response.status_code != 206:
        return 0
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else -1
