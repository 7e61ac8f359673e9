"""Pull a single GGUF: from a path on this host, or from a URL with the digest it must have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx

from shared.model_errors import BadReference, ModelNotFound
from workers.models import gguf
from workers.models.remote.client import check
from workers.models.remote.fetch import wanted
from workers.models.remote.progress import Meter
from workers.models.remote.pulling import Piece, Pulled, Pulling, bring, done, knows, settle
from workers.models.remote.sources import FileSource, UrlSource
from workers.models.store import artifact
from workers.models.store.package import build, describe, package, shards


async def pull_file(source: FileSource, pulling: Pulling) -> Pulled:
    """Copy the file into the store and tag it. BadReference outside the allowed folders."""
    path = await asyncio.to_thread(_allowed, source.path, pulling.options.file_roots)
    loop = asyncio.get_running_loop()
    paths = shards(path)
    copying = _Copying(sum(path.stat().st_size for path in paths), pulling, loop)
    try:
        model = await asyncio.to_thread(
            package, pulling.store, paths, source.ref, advance=copying.advance
        )
    finally:
        copying.stopped = True
    return done(model, source.ref, cached=False)


def _allowed(path: Path, roots: tuple[Path, ...]) -> Path:
    """The file behind `path`. Links and `..` are followed before the folder is compared."""
    real = path.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise BadReference(
            f"file:{path} is not below a folder that models may be taken from", param="model"
        )
    if not real.is_file():
        raise ModelNotFound(f"model not found: there is no file {path}", param="model")
    return real


class _Copying:
    """Hears of a copy in another thread, shows it in ours, and stops it when the pull ends."""

    def __init__(self, size: int, pulling: Pulling, loop: asyncio.AbstractEventLoop) -> None:
        self._size = size
        self._done = 0
        self._loop = loop
        self._meter = Meter(pulling.report, total=size)
        self.stopped = False

    def advance(self, count: int) -> None:
        if self.stopped:
            raise InterruptedError("the pull was cancelled")
        self._done += count
        self._loop.call_soon_threadsafe(self._meter.show, "", self._done, self._size)


async def pull_url(source: UrlSource, pulling: Pulling) -> Pulled:
    """Bring the file behind the URL; its digest was promised in the name."""
    piece = Piece(
        layer=source.digest,
        want=wanted(source.digest, None),
        open_at=partial(_open, pulling.client, source),
    )
    await bring(pulling, [piece])
    raw = await asyncio.to_thread(_manifest, pulling, source)
    cached = await asyncio.to_thread(knows, pulling.store, raw)
    model = await settle(pulling, raw, source.ref, partial(bring, pulling, [piece]))
    return done(model, source.ref, cached=cached)


def _manifest(pulling: Pulling, source: UrlSource) -> bytes:
    path = pulling.store.blobs.path(source.digest)
    name = httpx.URL(source.url).path.rpartition("/")[2]
    layer = describe(artifact.GGUF, source.digest, path.stat().st_size, name)
    return build(pulling.store.blobs, gguf.read(path), [layer], created_s=0)


@asynccontextmanager
async def _open(
    client: httpx.AsyncClient, source: UrlSource, offset: int
) -> AsyncIterator[httpx.Response]:
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    async with client.stream("GET", source.url, headers=headers) as response:
        if response.status_code != 416:
            await check(response, name=source.ref)
        yield response
