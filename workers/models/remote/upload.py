"""Bytes into a registry: in one request, or in chunks taken up again where they broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import httpx

from shared.model_errors import BadDigest, RemoteDown, StoreDamaged
from workers.models.remote.client import as_down, asked_s, patiently
from workers.models.remote.registry import Registry
from workers.models.store import digests
from workers.models.store.manifest import Descriptor

READ_BYTES = 1 << 20
Sent = Callable[[int], None]


async def has_blob(registry: Registry, blob: Descriptor) -> bool:
    """Whether the registry has this blob already. BadDigest if it has another size there."""
    url = registry.url(f"blobs/{blob.digest}")
    async with registry.send("HEAD", url, checked=False) as response:
        if response.status_code in (404, 416):
            return False
        size = response.headers.get("Content-Length", str(blob.size))
    if size != str(blob.size):
        raise BadDigest(
            f"the registry says {blob.digest} has {size} bytes, here it has {blob.size}"
        )
    return True


async def upload(
    registry: Registry, blob: Descriptor, path: Path, *, chunk_bytes: int, sent: Sent
) -> None:
    """Bring one blob there unless it is; `sent` hears how many of its bytes are there."""
    if await patiently(registry.retry, lambda: has_blob(registry, blob)):
        sent(blob.size)
    elif blob.size <= chunk_bytes:
        await patiently(registry.retry, lambda: _whole(registry, blob, path, sent))
    else:
        await patiently(registry.retry, lambda: _chunked(registry, blob, path, chunk_bytes, sent))


async def _whole(registry: Registry, blob: Descriptor, path: Path, sent: Sent) -> None:
    where, _ = await _begin(registry)
    headers = {
        "Content-Length": str(blob.size),
        "Content-Type": "application/octet-stream",
    }
    async with registry.send(
        "PUT",
        where.copy_merge_params({"digest": blob.digest}),
        headers=headers,
        body=partial(_read, path, 0, blob.size, sent),
    ):
        sent(blob.size)


async def _chunked(
    registry: Registry, blob: Descriptor, path: Path, chunk_bytes: int, sent: Sent
) -> None:
    """One upload; a chunk that breaks off is taken up where the registry says it has got to."""
    where, least_bytes = await _begin(registry)
    step, at, failures = max(chunk_bytes, least_bytes), 0, 0
    while at < blob.size:
        end = min(at + step, blob.size)
        try:
            where = await _patch(registry, where, path, at, end, sent)
            at, failures = end, 0
        except (httpx.RequestError, RemoteDown) as error:
            failures += 1
            if failures >= registry.retry.attempts:
                raise as_down(error) from error
            await asyncio.sleep(registry.retry.wait_s(failures, asked_s=asked_s(error)))
            where, at = await _arrived(registry, where)
    async with registry.send(
        "PUT",
        where.copy_merge_params({"digest": blob.digest}),
        headers={"Content-Length": "0"},
    ):
        sent(blob.size)


async def _begin(registry: Registry) -> tuple[httpx.URL, int]:
    """A new upload: where to, and the smallest chunk it takes."""
    url = registry.url("blobs/uploads/")
    async with registry.send("POST", url, headers={"Content-Length": "0"}) as response:
        least = response.headers.get("OCI-Chunk-Min-Length", "0")
        return _location(response), int(least) if least.isdigit() else 0


async def _patch(
    registry: Registry, where: httpx.URL, path: Path, start: int, end: int, sent: Sent
) -> httpx.URL:
    headers = {
        "Content-Length": str(end - start),
        "Content-Range": f"{start}-{end - 1}",
        "Content-Type": "application/octet-stream",
    }
    body = partial(_read, path, start, end, sent)
    async with registry.send("PATCH", where, headers=headers, body=body, checked=False) as response:
        if response.status_code in (404, 416):  # it is elsewhere in the file: ask where, go on
            raise RemoteDown(f"{response.url.host} lost its place in an upload; try again")
        return _location(response, default=where)


async def _arrived(registry: Registry, where: httpx.URL) -> tuple[httpx.URL, int]:
    """Where to go on, and how many bytes the registry has. RemoteDown if it forgot the upload."""
    async with registry.send("GET", where, checked=False) as response:
        if response.status_code == 404:
            raise RemoteDown(f"{response.url.host} forgot an upload; try again")
        last = response.headers.get("Range", "").removeprefix("bytes=").rpartition("-")[2]
        at = int(last) + 1 if last.isdigit() and last != "0" else 0
        return _location(response, default=where), at


def _location(response: httpx.Response, *, default: httpx.URL | None = None) -> httpx.URL:
    location = response.headers.get("Location")
    if location:
        return response.url.join(location)
    if default is None:
        raise RemoteDown(f"{response.url.host} gave no place to upload to")
    return default


async def _read(path: Path, start: int, end: int, sent: Sent) -> AsyncIterator[bytes]:
    """Bytes `start` to `end` of a blob; `sent` hears each piece as it goes out."""
    with _open(path) as file:
        file.seek(start)
        at = start
        while at < end:
            piece = await asyncio.to_thread(file.read, min(READ_BYTES, end - at))
            if not piece:
                raise StoreDamaged(f"blob {path.name} is cut short: pull the model again")
            yield piece
            at += len(piece)
            sent(at)


def _open(path: Path) -> BinaryIO:
    """Not in a thread: a cancel between the opening and the block would leave the file open."""
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise StoreDamaged(f"blob {path.name} is missing: pull the model again") from error


async def put_manifest(registry: Registry, reference: str, raw: bytes, media_type: str) -> None:
    """Publish the manifest under a tag; BadDigest unless the registry comes to the same digest."""
    said = await patiently(registry.retry, lambda: _put(registry, reference, raw, media_type))
    if said not in ("", digests.of(raw)):
        raise BadDigest(f"the registry stored the manifest as {said}, it is {digests.of(raw)}")


async def _put(registry: Registry, reference: str, raw: bytes, media_type: str) -> str:
    async def body() -> AsyncIterator[bytes]:
        yield raw

    headers = {"Content-Type": media_type, "Content-Length": str(len(raw))}
    url = registry.url(f"manifests/{reference}")
    async with registry.send("PUT", url, headers=headers, body=body) as response:
        return str(response.headers.get("Docker-Content-Digest", ""))
