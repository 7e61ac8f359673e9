"""What every way of pulling needs, and what they share: layers in parallel, then the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

import httpx
import msgspec

from shared.model_errors import BadDigest, ModelNotFound, StoreDamaged
from workers.models.remote.fetch import Opener, Wanted, fetch
from workers.models.remote.options import RemoteOptions
from workers.models.remote.progress import Meter, Report
from workers.models.store import digests, disk
from workers.models.store.store import MissingBlobs, Store, StoredModel

COMMITS = 3


class Pulled(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a pull. `cached`: all of it was here already. `size` is the config's, as text."""

    id: str
    ref: str
    cached: bool
    size: str


class Pulling(msgspec.Struct, frozen=True, kw_only=True):
    """One pull's surroundings."""

    store: Store
    client: httpx.AsyncClient
    options: RemoteOptions
    token: str
    report: Report


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A blob to bring and where its bytes are; `layer` is its name in the progress."""

    layer: str
    want: Wanted
    open_at: Opener


async def bring(pulling: Pulling, pieces: Iterable[Piece]) -> list[str]:
    """Fetch what is missing, in parallel; digests in the pieces' order. First failure ends all.

    NoSpace before the first byte when the disk cannot take what is missing.
    """
    pieces = list(pieces)
    meter = Meter(pulling.report, total=sum(piece.want.size or 0 for piece in pieces))
    disk.require_space(pulling.store.root, sum(_missing(pulling, piece.want) for piece in pieces))
    gate = asyncio.Semaphore(pulling.options.max_layers)

    async def one(piece: Piece) -> str:
        async with gate:
            return await fetch(
                pulling.store.blobs,
                piece.want,
                piece.open_at,
                retry=pulling.options.retry,
                show=lambda done, size: meter.show(piece.layer, done, size),
            )

    return await in_parallel(one(piece) for piece in pieces)


async def in_parallel(works: Iterable[Awaitable[str]]) -> list[str]:
    """All results in order; the first failure cancels the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_as_coroutine(work)) for work in works]
    except BaseExceptionGroup as failed:
        _raise_first(failed)
    return [task.result() for task in tasks]


async def _as_coroutine(work: Awaitable[str]) -> str:
    return await work


def _raise_first(failed: BaseExceptionGroup[BaseException]) -> NoReturn:
    raise failed.exceptions[0]


def _missing(pulling: Pulling, want: Wanted) -> int:
    blobs = pulling.store.blobs
    if want.size is None or (want.digest and blobs.has(want.digest, want.size)):
        return 0
    return max(0, want.size - blobs.partial_bytes(want.key))


async def settle(
    pulling: Pulling, manifest_raw: bytes, ref: str, again: Callable[[], Awaitable[object]]
) -> StoredModel:
    """Commit; where a delete took blobs away meanwhile, `again` brings them back first."""
    tags = [] if "@" in ref else [ref]
    for _ in range(COMMITS):
        try:
            return await asyncio.to_thread(pulling.store.commit, manifest_raw, tags=tags)
        except MissingBlobs:
            await again()
    return await asyncio.to_thread(pulling.store.commit, manifest_raw, tags=tags)


def knows(store: Store, manifest_raw: bytes) -> bool:
    """Whether a model of exactly this manifest is in the store."""
    try:
        store.get(digests.of(manifest_raw))
    except (ModelNotFound, StoreDamaged, BadDigest):
        return False
    return True


def done(model: StoredModel, ref: str, *, cached: bool) -> Pulled:
    """The pull's last value."""
    return Pulled(id=model.id, ref=ref, cached=cached, size=model.config.size)
