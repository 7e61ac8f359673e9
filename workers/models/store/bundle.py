"""The files an engine opens, under names it understands: hard links to blobs, made at first use.

llama.cpp finds the other shards of a model by the name of the first, so blobs alone will not do.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from shared.model_errors import StoreDamaged
from workers.models.store.artifact import Artifact, Role
from workers.models.store.blobs import Blobs
from workers.models.store.manifest import Descriptor


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Paths to open. `context_size` is the packaged one in tokens, None if the package has none."""

    model: Path
    projector: Path | None
    template: Path | None
    context_size: int | None


def make(folder: Path, artifact: Artifact, blobs: Blobs) -> Bundle:
    """The bundle in `folder`, built unless it is whole. The caller holds the store's lock."""
    plan = _plan(artifact)
    for layer in plan.values():
        if not blobs.has(layer.digest, layer.size):
            raise StoreDamaged(
                f"blob {layer.digest} is missing or cut short: delete the model and pull it again"
            )
    if not all(_same(folder / name, blobs.path(layer.digest)) for name, layer in plan.items()):
        _build(folder, plan, blobs)
    names = list(plan)
    return Bundle(
        model=folder / names[0],
        projector=folder / "model.mmproj" if "model.mmproj" in plan else None,
        template=folder / "template.jinja" if "template.jinja" in plan else None,
        context_size=artifact.config.context_size,
    )


def _plan(artifact: Artifact) -> dict[str, Descriptor]:
    """File name to layer; the first is the one to open. All names are ours."""
    weights = artifact.layers(Role.WEIGHTS)
    plan = {_shard_name(at, len(weights)): layer for at, layer in enumerate(weights, start=1)}
    for name, role in (("model.mmproj", Role.PROJECTOR), ("template.jinja", Role.TEMPLATE)):
        if found := artifact.layers(role):
            plan[name] = found[0]
    return plan


def _shard_name(at: int, count: int) -> str:
    return "model.gguf" if count == 1 else f"model-{at:05d}-of-{count:05d}.gguf"


def _build(folder: Path, plan: dict[str, Descriptor], blobs: Blobs) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, layer in plan.items():
        _link(blobs.path(layer.digest), folder / name)


def _link(blob: Path, target: Path) -> None:
    """A hard link; a symbolic one where the file system has none."""
    try:
        os.link(blob, target)
    except OSError:
        target.symlink_to(blob)


def _same(path: Path, blob: Path) -> bool:
    try:
        return path.samefile(blob)
    except FileNotFoundError:
        return False
