"""Header of a projector file: what it lets a model see or hear."""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.models import gguf
from workers.models.gguf import BadModelFile

# Their rows depend on what else is in the prompt, and here each image is encoded alone.
NOT_ALONE = ("hunyuanvl", "deepseek4v")


class ProjectorFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says of itself. `capabilities` are `vision` and `audio`."""

    path: Path
    size_bytes: int
    kind: str
    capabilities: tuple[str, ...]


def read(path: Path) -> ProjectorFacts:
    """Of the GGUF at `path`. BadModelFile if it is no projector; OSError."""
    size, pairs, _ = gguf.header(path)
    encoders = {"vision": "clip.has_vision_encoder", "audio": "clip.has_audio_encoder"}
    found = tuple(name for name, key in encoders.items() if pairs.get(key) is True)
    if not found:
        raise BadModelFile(f"{path.name} is no projector for images or sounds")
    kinds = ("clip.projector_type", *(f"clip.{name}.projector_type" for name in found))
    kind = next((str(pairs[key]) for key in kinds if pairs.get(key)), "")
    if kind in NOT_ALONE:
        raise BadModelFile(f"{path.name}: projectors of kind {kind} are not supported")
    return ProjectorFacts(path=path, size_bytes=size, kind=kind, capabilities=found)
