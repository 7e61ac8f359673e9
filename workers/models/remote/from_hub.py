"""Pull from the Hugging Face Hub: choose the files, bring them, make a model of them."""

from __future__ import annotations

import asyncio
from functools import partial

from workers.models import gguf
from workers.models.remote.hub import Hub, HubFile
from workers.models.remote.pulling import Piece, Pulled, Pulling, bring, done, knows, settle
from workers.models.remote.quantization import Choice, choose
from workers.models.remote.sources import HubSource
from workers.models.store import artifact
from workers.models.store.package import build, describe


async def pull(source: HubSource, pulling: Pulling) -> Pulled:
    """Bring the chosen quantisation into the store. Same files, same ID on every host."""
    hub = Hub(pulling.client, source, pulling.options, token=pulling.token)
    changed_s = await hub.list()
    choice = choose(hub.names, source.quantization, repository=source.repository)
    files = [await hub.file(name) for name in _names(choice)]
    digests = await _bring(hub, files, pulling)
    raw = await asyncio.to_thread(_manifest, pulling, choice, digests, changed_s)
    cached = await asyncio.to_thread(knows, pulling.store, raw)
    model = await settle(pulling, raw, source.ref, partial(_bring, hub, files, pulling))
    return done(model, source.ref, cached=cached)


def _names(choice: Choice) -> tuple[str, ...]:
    return (*choice.weights, *([choice.projector] if choice.projector else []))


async def _bring(hub: Hub, files: list[HubFile], pulling: Pulling) -> list[str]:
    return await bring(
        pulling,
        [
            Piece(
                layer=file.want.digest or f"sha256:{file.want.key}",
                want=file.want,
                open_at=partial(hub.open, file),
            )
            for file in files
        ],
    )


def _manifest(pulling: Pulling, choice: Choice, digests: list[str], created_s: int) -> bytes:
    blobs = pulling.store.blobs
    kinds = [artifact.GGUF] * len(choice.weights) + [artifact.MMPROJ]
    layers = [
        describe(kind, digest, blobs.path(digest).stat().st_size, name.rpartition("/")[2])
        for name, digest, kind in zip(_names(choice), digests, kinds, strict=False)
    ]
    facts = gguf.read(blobs.path(digests[0]))
    return build(blobs, facts, layers, created_s=created_s)
