"""Pull from an OCI registry or its mirrors: manifest, config, then the layers side by side."""

from __future__ import annotations

import asyncio
from functools import partial

from shared.errors import CaravanError
from shared.model_errors import BadDigest, ModelNotFound, RemoteDown, Unauthorized
from workers.models.remote.fetch import wanted
from workers.models.remote.pulling import Piece, Pulled, Pulling, bring, done, knows, settle
from workers.models.remote.registry import Fetched, Registry, read_blob, registries
from workers.models.remote.sources import OciSource
from workers.models.store import artifact
from workers.models.store.manifest import MAX_CONFIG_BYTES, Descriptor, Manifest, parse
from workers.models.store.store import StoredModel


async def pull(source: OciSource, pulling: Pulling) -> Pulled:
    """Bring the model into the store under its ref (a digest reference stays untagged)."""
    registry, fetched = await find(source, pulling)
    manifest = parse(fetched.raw)
    artifact.check_kind(manifest)
    cached = await asyncio.to_thread(knows, pulling.store, fetched.raw)
    if not cached:
        await _bring(registry, manifest, pulling)
    again = partial(_bring, registry, manifest, pulling)
    model = await settle(pulling, fetched.raw, source.ref, again)
    return done(model, source.ref, cached=cached)


async def look(source: OciSource, pulling: Pulling) -> StoredModel:
    """What a pull would bring, read and not stored; it has no tags."""
    registry, fetched = await find(source, pulling)
    manifest = parse(fetched.raw)
    artifact.check_kind(manifest)
    config = await read_blob(registry, manifest.config, limit=MAX_CONFIG_BYTES)
    found = artifact.check(manifest, config)
    return StoredModel(
        id=fetched.digest,
        tags=(),
        created=found.created,
        config=found.config,
        size_bytes=manifest.total_bytes,
    )


async def find(source: OciSource, pulling: Pulling) -> tuple[Registry, Fetched]:
    """The first mirror or host that has the manifest, and the manifest."""
    problem: CaravanError | None = None
    for registry in registries(pulling.client, source, pulling.options, token=pulling.token):
        try:
            return registry, await registry.manifest(source.reference)
        except (ModelNotFound, Unauthorized, RemoteDown, BadDigest) as error:
            problem = error
    assert problem is not None
    raise problem


async def _bring(registry: Registry, manifest: Manifest, pulling: Pulling) -> None:
    """The config first: it may say that the rest is not worth the trip."""
    await bring(pulling, [_piece(registry, manifest.config)])
    raw = await asyncio.to_thread(
        pulling.store.blobs.read, manifest.config.digest, limit=MAX_CONFIG_BYTES
    )
    artifact.check(manifest, raw)
    await bring(pulling, (_piece(registry, blob) for blob in manifest.blobs.values()))


def _piece(registry: Registry, blob: Descriptor) -> Piece:
    return Piece(
        layer=blob.digest,
        want=wanted(blob.digest, blob.size),
        open_at=partial(registry.open_blob, blob.digest),
    )
