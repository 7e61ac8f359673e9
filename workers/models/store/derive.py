"""New models out of stored ones, or out of uploaded files: new config and manifest, same blobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.model_errors import ModelNotFound
from workers.models import gguf
from workers.models.store import artifact, names
from workers.models.store.manifest import Descriptor, Manifest, encode
from workers.models.store.package import build, describe, repackage
from workers.models.store.store import Store, StoredModel


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What a new model has of its own. `context_size` in tokens; None and () leave it as it was."""

    template: str | None = None
    licenses: tuple[str, ...] = ()
    context_size: int | None = None


def derive(store: Store, source: str, target: str, changed: Changed) -> StoredModel:
    """A variant of a stored model under a new tag. Raises ModelNotFound, BadReference."""
    names.taggable(target)
    kinds = _kinds(changed)
    if not kinds:
        return repackage(store, source, target, context_size=changed.context_size)
    old = store.artifact_of(store.get(source).id).manifest
    kept = [layer for layer in old.layers if layer.media_type not in kinds]
    layers = [*kept, *_texts(store, changed)]
    return _commit(store, old, layers, target, context_size=changed.context_size)


def assemble(store: Store, files: dict[str, str], target: str, changed: Changed) -> StoredModel:
    """A model out of files that are blobs here already (name to digest): weights, all shards in
    the order of their names, and a projector. ModelNotFound when one is missing, BadModelFile."""
    names.taggable(target)
    layers = [_layer(store, name, files[name]) for name in sorted(files)]
    weights = [layer for layer in layers if layer.media_type == artifact.GGUF]
    if not weights:
        raise ModelNotFound(f"no GGUF weights among {', '.join(sorted(files))}", param="files")
    facts = gguf.read(store.blobs.path(weights[0].digest))
    raw = build(
        store.blobs,
        facts,
        [*layers, *_texts(store, changed)],
        created_s=int(time.time()),
        context_size=changed.context_size,
    )
    return store.commit(raw, tags=[target])


def _layer(store: Store, name: str, digest: str) -> Descriptor:
    try:
        size = store.blobs.path(digest).stat().st_size
    except FileNotFoundError as error:
        raise ModelNotFound(
            f"files: {name} ({digest}) is not here: upload it first", param="files"
        ) from error
    base = PurePosixPath(name).name
    projector = base.lower().startswith("mmproj")
    return describe(artifact.MMPROJ if projector else artifact.GGUF, digest, size, base)


def _kinds(changed: Changed) -> set[str]:
    found = {artifact.TEMPLATE} if changed.template is not None else set()
    return found | ({artifact.LICENSE} if changed.licenses else set())


def _texts(store: Store, changed: Changed) -> list[Descriptor]:
    """Layers for the texts."""
    found = [(artifact.LICENSE, text, "LICENSE") for text in changed.licenses]
    if changed.template:
        found.append((artifact.TEMPLATE, changed.template, "template.jinja"))
    return [_text(store, kind, text.encode(), name) for kind, text, name in found]


def _text(store: Store, kind: str, raw: bytes, name: str) -> Descriptor:
    return describe(kind, store.blobs.put(raw), len(raw), name)


def _commit(
    store: Store,
    old: Manifest,
    layers: Sequence[Descriptor],
    target: str,
    *,
    context_size: int | None,
) -> StoredModel:
    """The manifest with other layers; the config lists them too."""
    config = msgspec.json.decode(store.config_raw(old), type=dict[str, Any])
    if isinstance(config.get("rootfs"), dict):
        config["rootfs"] = {**config["rootfs"], "diff_ids": [layer.digest for layer in layers]}
    if context_size is not None:
        known = config.get("config")
        config["config"] = {
            **(known if isinstance(known, dict) else {}),
            "context_size": context_size,
        }
    raw = msgspec.json.encode(config)
    descriptor = replace(old.config, digest=store.blobs.put(raw), size=len(raw))
    return store.commit(
        encode(replace(old, config=descriptor, layers=tuple(layers))), tags=[target]
    )
