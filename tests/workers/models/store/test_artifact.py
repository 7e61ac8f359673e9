"""What artifacts hold, as several writers write them, and what is refused."""

from __future__ import annotations

import msgspec
import pytest

from shared.model_errors import UnsupportedArtifact
from workers.models.store import artifact
from workers.models.store.manifest import parse

LAYER = {"mediaType": artifact.GGUF, "digest": "sha256:" + "1" * 64, "size": 10}


def manifest(kind: str, *layers: object, **more: object) -> bytes:
    config = {"mediaType": kind, "digest": "sha256:" + "2" * 64, "size": 2}
    return msgspec.json.encode(
        {"schemaVersion": 2, "config": config, "layers": layers or [LAYER], **more}
    )


@pytest.mark.parametrize("kind", [artifact.DOCKER_CONFIG_V1, artifact.DOCKER_CONFIG_V2])
def test_docker(kind: str) -> None:
    config = {
        "config": {
            "format": "gguf",
            "quantization": "Q4_K_M",
            "parameters": "361.82M",
            "architecture": "llama",
            "size": "256.35MiB",
            "gguf": {"a": 1, "b": ["x", "y"], "long": ["x"] * 51, "c": {"d": 1}},
            "context_size": 4096,
            "unknown": [1],
        },
        "descriptor": {"created": "2025-03-24T11:49:41.123456789Z"},
    }
    found = artifact.read(manifest(kind), msgspec.json.encode(config))
    assert found.created == 1742816981
    assert found.config == artifact.ModelConfig(
        format="gguf",
        quantization="Q4_K_M",
        parameters="361.82M",
        architecture="llama",
        size="256.35MiB",
        gguf={"a": "1", "b": "x, y"},
        context_size=4096,
    )


def test_the_published_spec_writes_numbers() -> None:
    config = {"config": {"size": 1234, "parameters": 7}, "descriptor": {"createdAt": "bad"}}
    found = artifact.read(manifest(artifact.DOCKER_CONFIG_V1), msgspec.json.encode(config))
    assert (found.config.size, found.config.parameters, found.created) == ("1234", "7", 0)


@pytest.mark.parametrize(
    ("media_type", "path", "form"),
    [
        ("application/vnd.cncf.model.weight.v1.raw", "m.gguf", ""),
        ("application/vnd.cncf.model.weight.v1.raw", "", "gguf"),
        ("application/vnd.cncf.model.weight.v1.gguf", "", ""),
    ],
)
def test_modelpack(media_type: str, path: str, form: str) -> None:
    layer = {**LAYER, "mediaType": media_type, "annotations": {artifact.PATH: path}}
    projector = {**layer, "annotations": {artifact.PATH: "mmproj-F16.gguf"}}
    config = {
        "descriptor": {"createdAt": "2025-01-01T00:00:00Z", "family": "x"},
        "config": {"architecture": "llama", "format": form, "paramSize": "8b"},
        "modelfs": {"type": "layers", "diffIds": []},
    }
    raw = manifest(artifact.MODELPACK_CONFIG, projector, layer)
    found = artifact.read(raw, msgspec.json.encode(config))
    assert (found.config.parameters, found.config.size) == ("8b", "8b")
    assert len(found.layers(artifact.Role.WEIGHTS)) == 1
    assert len(found.layers(artifact.Role.PROJECTOR)) == 1


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not a model manifest"),
        (b"[]", "not a model manifest"),
        (b"{}", "not a model manifest"),
        (b"\xff\xfe", "not a model manifest"),
        (b"[" * 100_000, "not a model manifest"),
        (b" " * (5 << 20), "over"),
    ],
)
def test_manifests_that_are_none(raw: bytes, why: str) -> None:
    with pytest.raises(UnsupportedArtifact, match=why):
        parse(raw)


@pytest.mark.parametrize(
    "layer",
    [
        {**LAYER, "digest": "sha256:../../x"},
        {**LAYER, "digest": "sha256:" + "1" * 64 + "\n"},
        {**LAYER, "digest": "md5:" + "1" * 64},
        {**LAYER, "size": -1},
        {**LAYER, "size": 1 << 60},
        {**LAYER, "size": "10"},
        {**LAYER, "mediaType": "application/vnd.docker.ai.safetensors"},
        {**LAYER, "mediaType": artifact.GGUF + "+gzip"},
        {**LAYER, "mediaType": artifact.LICENSE},
    ],
)
def test_layers_that_cannot_be(layer: object) -> None:
    with pytest.raises(UnsupportedArtifact):
        artifact.read(manifest(artifact.DOCKER_CONFIG_V1, layer), b"{}")


def test_too_many_layers() -> None:
    with pytest.raises(UnsupportedArtifact):
        parse(manifest(artifact.DOCKER_CONFIG_V1, *[LAYER] * 2001))


def test_one_digest_with_two_sizes() -> None:
    with pytest.raises(UnsupportedArtifact, match="two sizes"):
        parse(manifest(artifact.DOCKER_CONFIG_V1, LAYER, {**LAYER, "size": 11}))


@pytest.mark.parametrize("config", [b"", b"[]", b"null", b"{", b"[" * 100_000])
def test_configs_that_are_none(config: bytes) -> None:
    with pytest.raises(UnsupportedArtifact, match="config"):
        artifact.read(manifest(artifact.DOCKER_CONFIG_V1), config)


def test_nesting_that_would_exhaust_the_stack() -> None:
    deep = b'{"schemaVersion":2,"annotations":' + b'{"a":' * 100_000
    with pytest.raises(UnsupportedArtifact):
        parse(deep)
    with pytest.raises(UnsupportedArtifact):
        parse(b'{"unknown":' + b"[" * 100_000)
