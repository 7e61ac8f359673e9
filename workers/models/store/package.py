"""A GGUF file becomes a model: its blob, a config that says what it is, a manifest, a tag."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from workers.models import gguf
from workers.models.gguf import BadModelFile, ModelFacts
from workers.models.store import artifact, disk, names
from workers.models.store.artifact import ModelConfig
from workers.models.store.blobs import Blobs, read_chunks
from workers.models.store.manifest import OCI_MANIFEST, Descriptor, Manifest, encode
from workers.models.store.store import Store, StoredModel

SHARD = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")
Advance = Callable[[int], None]


class Extras(msgspec.Struct, frozen=True, kw_only=True):
    """Other files of a model, all optional. `context_size` is tokens."""

    projector: Path | None = None
    template: Path | None = None
    license: Path | None = None
    context_size: int | None = None


def package(
    store: Store,
    weights: Sequence[Path],
    ref: str,
    *,
    extras: Extras | None = None,
    created_s: int | None = None,
    advance: Advance = lambda count: None,
) -> StoredModel:
    """Copy GGUF files (all shards, in order) into the store and tag them `ref`.

    The same files with the same `created_s` (Unix time; the file's own by default) give the same
    ID on every host. `advance` hears of each copied chunk's bytes and may raise to stop.
    Raises BadModelFile, NoSpace, OSError.
    """
    extras = extras or Extras()
    facts = gguf.read(weights[0])
    files = [(path, artifact.GGUF) for path in weights] + _extra_files(extras)
    disk.require_space(store.root, sum(path.stat().st_size for path, _ in files))
    layers = [import_file(store.blobs, path, kind, advance=advance) for path, kind in files]
    if created_s is None:
        created_s = int(weights[0].stat().st_mtime)
    raw = build(store.blobs, facts, layers, context_size=extras.context_size, created_s=created_s)
    return store.commit(raw, tags=[ref])


def shards(path: Path) -> list[Path]:
    """All parts of the model whose first part is `path`; just `path` when it is whole."""
    found = SHARD.fullmatch(path.name)
    if not found:
        return [path]
    start, count = found.group(1), int(found.group(2))
    return [path.with_name(f"{start}-{at:05d}-of-{count:05d}.gguf") for at in range(1, count + 1)]


def _extra_files(extras: Extras) -> list[tuple[Path, str]]:
    kinds = (
        (extras.projector, artifact.MMPROJ),
        (extras.template, artifact.TEMPLATE),
        (extras.license, artifact.LICENSE),
    )
    return [(path, kind) for path, kind in kinds if path is not None]


def import_file(
    blobs: Blobs, path: Path, media_type: str, *, advance: Advance = lambda count: None
) -> Descriptor:
    """Copy a file into the blobs; a link would let a later change of the file change the blob."""
    partial = blobs.new_partial()
    with path.open("rb") as file, contextlib.ExitStack() as undo:
        undo.callback(partial.drop)
        for chunk in read_chunks(file):
            partial.append(chunk)
            advance(len(chunk))
        digest = partial.finish()
        undo.pop_all()
    return describe(media_type, digest, partial.size, path.name)


def describe(media_type: str, digest: str, size: int, name: str) -> Descriptor:
    """A layer that remembers what its file was called."""
    return Descriptor(
        media_type=media_type, digest=digest, size=size, annotations={artifact.PATH: name}
    )


def build(
    blobs: Blobs,
    facts: ModelFacts,
    layers: Sequence[Descriptor],
    *,
    created_s: int,
    context_size: int | None = None,
) -> bytes:
    """The manifest's bytes; its config goes into the blobs."""
    weights = [layer for layer in layers if layer.media_type == artifact.GGUF]
    if facts.split_count > len(weights):
        raise BadModelFile(
            f"the model has {facts.split_count} parts and {len(weights)} are here:"
            " start from its first part, with the others beside it"
        )
    total = sum(layer.size for layer in weights)
    config = _config(facts, total_bytes=total, context_size=context_size)
    raw = msgspec.json.encode(
        {
            "config": config,
            "descriptor": {"created": datetime.fromtimestamp(created_s, UTC).isoformat()},
            "rootfs": {"type": "rootfs", "diff_ids": [layer.digest for layer in layers]},
        }
    )
    descriptor = Descriptor(
        media_type=artifact.DOCKER_CONFIG_V1, digest=blobs.put(raw), size=len(raw)
    )
    return encode(
        Manifest(schema_version=2, media_type=OCI_MANIFEST, config=descriptor, layers=tuple(layers))
    )


def repackage(
    store: Store, name: str, target: str, *, context_size: int | None = None
) -> StoredModel:
    """A variant under a new tag: new config and manifest, same weights. Context in tokens."""
    names.taggable(target)
    old = store.artifact_of(store.get(name).id).manifest
    config = msgspec.json.decode(store.config_raw(old))
    if context_size is not None:
        known = config.get("config")
        known = known if isinstance(known, dict) else {}
        config["config"] = {**known, "context_size": context_size}
    raw = msgspec.json.encode(config)
    descriptor = msgspec.structs.replace(old.config, digest=store.blobs.put(raw), size=len(raw))
    changed = msgspec.structs.replace(old, config=descriptor)
    return store.commit(encode(changed), tags=[target])


def _config(facts: ModelFacts, *, total_bytes: int, context_size: int | None) -> ModelConfig:
    # A sharded model's header counts only the first shard's weights.
    whole = facts.split_count == 1 and facts.parameters > 0
    return ModelConfig(
        format="gguf",
        quantization=facts.quantization,
        parameters=count_text(facts.parameters) if whole else facts.size_label,
        architecture=facts.architecture,
        size=bytes_text(total_bytes),
        gguf=_metadata(facts),
        context_size=context_size,
    )


def _metadata(facts: ModelFacts) -> dict[str, str]:
    """GGUF's own key names, as DMR's clients look them up."""
    kind = facts.architecture
    found: dict[str, str | int] = {
        "general.architecture": kind,
        "general.name": facts.name,
        "general.size_label": facts.size_label,
        "general.license": facts.license,
        f"{kind}.context_length": facts.context_length,
        f"{kind}.embedding_length": facts.embedding_length,
        f"{kind}.block_count": facts.block_count,
        f"{kind}.attention.head_count": facts.head_count,
        f"{kind}.attention.head_count_kv": facts.head_count_kv,
        f"{kind}.expert_count": facts.expert_count,
        "tokenizer.ggml.model": facts.tokenizer,
        "tokenizer.ggml.pre": facts.pre_tokenizer,
        "tokenizer.chat_template": facts.chat_template,
    }
    return {key: str(value) for key, value in found.items() if value}


def count_text(count: int) -> str:
    """`134515008` as `134.52M`."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return str(count)


def bytes_text(count: int) -> str:
    """`98552832` as `93.99MiB`."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.2f}{unit}"
    return f"{count}B"
