"""Which files of a repository are meant by a quantisation. Pure.

The rule is Docker Model Runner's (a file's name contains the tag between separators; none asked:
Q4_K_M, else the first by name), but an unknown quantisation is an error that lists what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from shared.model_errors import ModelNotFound, UnsupportedArtifact

DEFAULT = "Q4_K_M"
UNSAID = ("latest", "main", "")
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
KNOWN = re.compile(
    r"(?:^|[-._])((?:UD-)?I?Q\d(?:_[0-9A-Z]{1,3})*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F(?:16|32))"
    r"(?=[-._]|$)",
    re.IGNORECASE,
)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Paths in the repository: all shards of the weights in order, and a vision projector."""

    weights: tuple[str, ...]
    projector: str | None


def choose(files: Iterable[str], quantization: str, *, repository: str) -> Choice:
    """The files to pull. UnsupportedArtifact without GGUF files, ModelNotFound without this one."""
    names = sorted(name for name in files if name.lower().endswith(".gguf"))
    models = _grouped(name for name in names if not _is_projector(name))
    if not models:
        raise UnsupportedArtifact(
            f"{repository} has no GGUF files; Caravan runs GGUF models: look for its GGUF variant"
        )
    model = _pick(models, quantization, repository)
    return Choice(
        weights=_whole(models[model], repository),
        projector=_projector([name for name in names if _is_projector(name)]),
    )


def _grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Shards under their common name, whole files under their own."""
    groups: dict[str, list[str]] = {}
    for name in names:
        shard = SHARD.fullmatch(name)
        groups.setdefault(shard.group(1) if shard else name[: -len(".gguf")], []).append(name)
    return groups


def _pick(models: dict[str, list[str]], quantization: str, repository: str) -> str:
    if quantization.lower() in UNSAID:
        return next(iter(_matching(models, DEFAULT)), min(models))
    if found := _matching(models, quantization):
        return found[0]
    offered = sorted({label for model in models for label in labels(model)}) or sorted(models)
    raise ModelNotFound(
        f"model not found: {repository} has no {quantization}; it has {', '.join(offered)}",
        param="model",
    )


def _matching(models: Iterable[str], tag: str) -> list[str]:
    """Models whose name has the tag, exact labels first (`Q4_K` is not `Q4_K_M`)."""
    pattern = re.compile(rf"(?:[-._/]|^){re.escape(tag)}(?=[-._]|$)", re.IGNORECASE)
    found = [model for model in models if pattern.search(_name(model))]
    return sorted(found, key=lambda model: (tag.upper() not in labels(model), model))


def labels(model: str) -> list[str]:
    """Quantisations a file's name mentions, upper-case."""
    return [label.upper() for label in KNOWN.findall(_name(model))]


def _name(model: str) -> str:
    return PurePosixPath(model).name


def _whole(shards: list[str], repository: str) -> tuple[str, ...]:
    """The shards in order. UnsupportedArtifact when some are missing."""
    found = SHARD.fullmatch(shards[0])
    if found and [SHARD.fullmatch(name).group(2) for name in shards] != [  # type: ignore[union-attr]
        f"{at:05d}" for at in range(1, int(found.group(3)) + 1)
    ]:
        raise UnsupportedArtifact(
            f"{repository} lacks parts of {found.group(1)}: {len(shards)} of {int(found.group(3))}"
        )
    return tuple(shards)


def _is_projector(name: str) -> bool:
    return _name(name).lower().startswith("mmproj")


def _projector(names: list[str]) -> str | None:
    """F16 is preferred: BF16 and F32 are slower or larger for no better eyes."""
    return min(
        names, key=lambda name: ("F16" not in labels(name[: -len(".gguf")]), name), default=None
    )
