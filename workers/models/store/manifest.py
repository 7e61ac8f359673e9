"""OCI manifests: parsed with bounds, because anyone can publish one."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from shared.model_errors import UnsupportedArtifact
from workers.models.store.untrusted import BadJson, decode

MAX_MANIFEST_BYTES = 4 << 20
MAX_CONFIG_BYTES = 16 << 20
MAX_LAYERS = 2000
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Size = Annotated[int, Meta(ge=0, le=1 << 50)]


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One blob as a manifest names it. `size` is bytes."""

    media_type: str
    digest: Digest
    size: Size
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An OCI image manifest with one config and at least one layer."""

    schema_version: Literal[2] = field(name="schemaVersion")
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], Meta(min_length=1, max_length=MAX_LAYERS)]
    annotations: dict[str, str] = {}

    @property
    def blobs(self) -> dict[str, Descriptor]:
        """Every blob once, by digest: layers, then the config."""
        return {blob.digest: blob for blob in (*self.layers, self.config)}

    @property
    def total_bytes(self) -> int:
        """Size of all blobs together."""
        return sum(blob.size for blob in self.blobs.values())


class _Listed(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: Digest


class _Index(msgspec.Struct, frozen=True):
    manifests: Annotated[tuple[_Listed, ...], Meta(max_length=MAX_LAYERS)]


def parse(raw: bytes) -> Manifest:
    """The manifest in `raw`. UnsupportedArtifact when it is none, or none we know."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise UnsupportedArtifact(f"the manifest is over {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest: Manifest = decode(raw, Manifest)
    except BadJson as error:
        raise UnsupportedArtifact(f"not a model manifest: {error}") from error
    if manifest.media_type not in ("", OCI_MANIFEST, DOCKER_MANIFEST):
        raise UnsupportedArtifact(f"manifest type {manifest.media_type!r} is not supported")
    _same_sizes(manifest)
    return manifest


def _same_sizes(manifest: Manifest) -> None:
    """One digest has one size; two of them would make the space check lie."""
    sizes = {blob.digest: blob.size for blob in manifest.layers}
    for blob in (*manifest.layers, manifest.config):
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise UnsupportedArtifact(f"the manifest gives {blob.digest} two sizes")


def first_of_index(raw: bytes) -> str | None:
    """Digest of the first manifest when `raw` is an index of several; None when it is no index."""
    try:
        index: _Index = decode(raw, _Index)
    except BadJson:
        return None
    kinds = (OCI_MANIFEST, DOCKER_MANIFEST)
    return next((each.digest for each in index.manifests if each.media_type in kinds), None)


def encode(manifest: Manifest) -> bytes:
    """The bytes whose digest is the model's ID."""
    return msgspec.json.encode(manifest)
