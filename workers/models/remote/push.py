"""Pushing by name: blobs side by side, the manifest last, so that nothing half is ever visible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from shared.model_errors import BadReference
from workers.models.remote.client import open_client
from workers.models.remote.flights import Flights
from workers.models.remote.options import RemoteOptions
from workers.models.remote.progress import Meter, Progress, Report
from workers.models.remote.pulling import in_parallel
from workers.models.remote.registry import Registry, registries
from workers.models.remote.sources import OciSource, oci
from workers.models.remote.upload import put_manifest, upload
from workers.models.store.manifest import OCI_MANIFEST, Descriptor, Manifest, parse
from workers.models.store.store import Store


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a push."""

    id: str
    ref: str


class Pushes:
    """Pushes out of one store. Made by `open_pushes`; belongs to one event loop."""

    def __init__(self, store: Store, client: httpx.AsyncClient, options: RemoteOptions) -> None:
        self._store = store
        self._client = client
        self._options = options
        self.flights: Flights[Pushed] = Flights()

    def push(self, name: str, *, token: str = "") -> AsyncGenerator[Progress | Pushed, None]:
        """Bring a model to the registry its name says: Progress values, the last is Pushed.

        Raises BadReference and ModelNotFound now, the rest of shared.model_errors while iterating.
        Shared and cancelled as pulls are.
        """
        source = oci(name)
        if "@" in source.ref or source.ref.startswith("huggingface.co/"):
            raise BadReference(f"{name!r} is no place in a registry: tag it, push the tag")
        model_id = self._store.get(name).id

        async def work(report: Report) -> Pushed:
            return await self._run(model_id, source, token, report)

        return self.flights.join((source, model_id, token), work)

    async def _run(self, model_id: str, source: OciSource, token: str, report: Report) -> Pushed:
        raw = await asyncio.to_thread(self._store.manifest_raw, model_id)
        manifest = parse(raw)
        (registry,) = registries(self._client, source, self._options, token=token, mirrors=False)
        await self._upload_all(registry, manifest, report)
        await put_manifest(registry, source.reference, raw, manifest.media_type or OCI_MANIFEST)
        return Pushed(id=model_id, ref=source.ref)

    async def _upload_all(self, registry: Registry, manifest: Manifest, report: Report) -> None:
        meter = Meter(report, total=manifest.total_bytes)
        gate = asyncio.Semaphore(self._options.max_layers)

        async def one(blob: Descriptor) -> str:
            async with gate:
                await upload(
                    registry,
                    blob,
                    self._store.blobs.path(blob.digest),
                    chunk_bytes=self._options.push_chunk_bytes,
                    sent=lambda done: meter.show(blob.digest, done, blob.size),
                )
            return blob.digest

        await in_parallel(one(blob) for blob in manifest.blobs.values())


@asynccontextmanager
async def open_pushes(store: Store, options: RemoteOptions) -> AsyncIterator[Pushes]:
    """Pushes out of `store` for as long as the block lasts; those still running are cancelled."""
    async with open_client(options) as client:
        pushes = Pushes(store, client, options)
        try:
            yield pushes
        finally:
            await pushes.flights.close()
