"""What a model artifact holds: Docker's format v0.1 and v0.2, and CNCF ModelPack. Pure.

Configs come from strangers and from several writers that do not agree on types (a size may be
`256.35MiB` or a number), so they are read leniently into text, within the manifest's byte limits.
Weights that are no GGUF are refused here: better before 20 GB were pulled than after.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import msgspec

from shared.model_errors import UnsupportedArtifact
from workers.models.store.manifest import MAX_CONFIG_BYTES, Descriptor, Manifest, parse
from workers.models.store.untrusted import BadJson, decode

DOCKER_CONFIG_V1 = "application/vnd.docker.ai.model.config.v0.1+json"
DOCKER_CONFIG_V2 = "application/vnd.docker.ai.model.config.v0.2+json"
MODELPACK_CONFIG = "application/vnd.cncf.model.config.v1+json"
CONFIGS = (DOCKER_CONFIG_V1, DOCKER_CONFIG_V2, MODELPACK_CONFIG)

GGUF = "application/vnd.docker.ai.gguf.v3"
MMPROJ = "application/vnd.docker.ai.mmproj"
TEMPLATE = "application/vnd.docker.ai.chat.template.jinja"
LICENSE = "application/vnd.docker.ai.license"
FILE = "application/vnd.docker.ai.model.file"
PATH = "org.cncf.model.filepath"
MAX_LISTED = 50


class Role(Enum):
    """What a layer is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    TEMPLATE = "template"
    LICENSE = "license"
    OTHER = "other"


ROLES = {
    GGUF: Role.WEIGHTS,
    "application/vnd.cncf.model.weight.v1.gguf": Role.WEIGHTS,
    MMPROJ: Role.PROJECTOR,
    GGUF + ".mmproj": Role.PROJECTOR,
    TEMPLATE: Role.TEMPLATE,
    LICENSE: Role.LICENSE,
    GGUF + ".lora": Role.OTHER,
    FILE: Role.OTHER,
    "application/vnd.cncf.model.weight.config.v1.raw": Role.OTHER,
    "application/vnd.cncf.model.doc.v1.raw": Role.OTHER,
}
RAW_WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The model in words, in the shape DMR's clients read. All text but `context_size` (tokens)."""

    format: str = ""
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    size: str = ""
    gguf: dict[str, str] = {}
    context_size: int | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest with its config. `created` is Unix seconds, 0 when unknown."""

    manifest: Manifest
    config: ModelConfig
    created: int

    def layers(self, role: Role) -> tuple[Descriptor, ...]:
        """Layers of one role, in the manifest's order: that of the shards."""
        return tuple(layer for layer in self.manifest.layers if role_of(layer, self.config) is role)


def read(manifest_raw: bytes, config_raw: bytes) -> Artifact:
    """Manifest and config together. UnsupportedArtifact unless a GGUF model is in it."""
    return check(parse(manifest_raw), config_raw)


def check(manifest: Manifest, config_raw: bytes) -> Artifact:
    """As `read`, for a manifest that is parsed."""
    check_kind(manifest)
    found = _decode(config_raw)
    created, config = (
        _modelpack(found) if manifest.config.media_type == MODELPACK_CONFIG else _docker(found)
    )
    artifact = Artifact(manifest=manifest, config=config, created=created)
    if not artifact.layers(Role.WEIGHTS):
        raise UnsupportedArtifact(
            f"no GGUF weights in this artifact (format: {config.format or 'not said'});"
            " Caravan runs GGUF models: choose a GGUF variant"
        )
    return artifact


def check_kind(manifest: Manifest) -> None:
    """Refuse by media types alone, before anything but the manifest was fetched."""
    kind = manifest.config.media_type
    if kind not in CONFIGS:
        raise UnsupportedArtifact(
            f'config type "{kind}" is not supported (supported: {", ".join(CONFIGS)})'
            " - is it a model, and is this Caravan recent enough?"
        )
    if manifest.config.size > MAX_CONFIG_BYTES:
        raise UnsupportedArtifact(f"the config is over {MAX_CONFIG_BYTES} bytes")
    for layer in manifest.layers:
        if layer.media_type not in ROLES and layer.media_type != RAW_WEIGHTS:
            raise UnsupportedArtifact(
                f'layer type "{layer.media_type}" is not supported; Caravan runs GGUF models'
            )


def role_of(layer: Descriptor, config: ModelConfig) -> Role:
    """What the layer is for; a v0.2 or ModelPack layer says it by its file's name."""
    name = PurePosixPath(layer.annotations.get(PATH, "")).name.lower()
    if name.startswith("mmproj") and name.endswith(".gguf"):
        return Role.PROJECTOR
    if layer.media_type != RAW_WEIGHTS:
        return ROLES.get(layer.media_type, Role.OTHER)
    is_gguf = name.endswith(".gguf") or (not name and config.format.lower() == "gguf")
    return Role.WEIGHTS if is_gguf else Role.OTHER


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        found: object = decode(raw)
    except BadJson as error:
        raise UnsupportedArtifact(f"the model's config is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnsupportedArtifact("the model's config is not a JSON object")
    return found


def _docker(found: dict[str, Any]) -> tuple[int, ModelConfig]:
    config, descriptor = _object(found, "config"), _object(found, "descriptor")
    return _seconds(descriptor.get("created") or descriptor.get("createdAt")), ModelConfig(
        format=_text(config.get("format")),
        quantization=_text(config.get("quantization")),
        parameters=_text(config.get("parameters")),
        architecture=_text(config.get("architecture")),
        size=_text(config.get("size")),
        gguf=_texts(_object(config, "gguf")),
        context_size=_context(config),
    )


def _modelpack(found: dict[str, Any]) -> tuple[int, ModelConfig]:
    config, descriptor = _object(found, "config"), _object(found, "descriptor")
    parameters = _text(config.get("paramSize"))
    return _seconds(descriptor.get("createdAt")), ModelConfig(
        format=_text(config.get("format")),
        quantization=_text(config.get("quantization")),
        parameters=parameters,
        architecture=_text(config.get("architecture")),
        size=parameters,
        context_size=_context(config),  # not in ModelPack: ours, written by a repackage
    )


def _context(config: dict[str, Any]) -> int | None:
    tokens = config.get("context_size")
    return tokens if type(tokens) is int and 0 < tokens < 1 << 31 else None


def _object(found: dict[str, Any], name: str) -> dict[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _texts(values: dict[str, Any]) -> dict[str, str]:
    """Metadata as text; long lists (vocabularies) are dropped as DMR drops them."""
    kept = {}
    for name, value in values.items():
        if isinstance(value, list) and len(value) <= MAX_LISTED:
            kept[name] = ", ".join(_text(item) for item in value)
        elif isinstance(value, str | int | float):
            kept[name] = _text(value)
    return kept


def _seconds(moment: object) -> int:
    if not isinstance(moment, str):
        return 0
    try:
        when = datetime.fromisoformat(moment)
        return max(0, int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        return 0
