"""Model refs: the table of names that Docker Model Runner documents."""

from __future__ import annotations

import pytest

from shared import refs

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "normal"),
    [
        ("gemma3", "ai/gemma3:latest"),
        ("gemma3:v1", "ai/gemma3:v1"),
        ("myorg/model", "myorg/model:latest"),
        ("registry.example.com/model", "registry.example.com/model:latest"),
        ("hf.co/org/model:Q4_K_M", "huggingface.co/org/model:Q4_K_M"),
        ("huggingface.co/Org/Model", "huggingface.co/org/model:latest"),
        ("HF.co/Org/model", "huggingface.co/org/model:latest"),
        ("MyModel", "ai/mymodel:latest"),
        ("MyModel:TagKeepsCase", "ai/mymodel:TagKeepsCase"),
        ("model:", "ai/model:latest"),
        ("abc123", "ai/abc123:latest"),
        ("  gemma3  ", "ai/gemma3:latest"),
        ("1234567890ab", "1234567890ab"),
        (HEX, HEX),
        (f"sha256:{HEX}", f"sha256:{HEX}"),
        ("localhost:5000/foo", "localhost:5000/foo:latest"),
        ("localhost:5000/foo:v1", "localhost:5000/foo:v1"),
        ("", ""),
        ("   ", ""),
        (f"name@sha256:{HEX}", f"ai/name@sha256:{HEX}"),
        (f"name:v1@sha256:{HEX}", f"ai/name@sha256:{HEX}"),
        (f"localhost:5000/foo@sha256:{HEX}", f"localhost:5000/foo@sha256:{HEX}"),
    ],
)
def test_normal_forms(name: str, normal: str) -> None:
    assert refs.normalize(name) == normal
    assert refs.normalize(normal) == normal


@pytest.mark.parametrize(
    "name",
    [
        "some-repo",
        "some-repo:latest",
        "ai/some-repo",
        "docker.io/ai/some-repo:latest",
        "index.docker.io/ai/some-repo",
        "docker.io/some-repo",
        "Docker.io/AI/some-repo",
    ],
)
def test_spellings_of_one_model_are_equal(name: str) -> None:
    assert refs.normalize(name) == "ai/some-repo:latest"


def test_another_organisation_is_another_model() -> None:
    assert refs.normalize("docker.io/other/some-repo") == "other/some-repo:latest"


@pytest.mark.parametrize("name", [HEX, f"sha256:{HEX}", HEX[:12]])
def test_ids_are_recognised(name: str) -> None:
    assert refs.is_id(name)


@pytest.mark.parametrize(
    "name",
    [
        HEX[:11],
        HEX[:13],
        HEX[:63],
        HEX + "0",
        HEX.upper(),
        HEX[:12].upper().replace("0", "A"),
        f"sha256:{HEX[:63]}",
        f"sha256:{HEX.upper()}",
        f"sha512:{HEX}",
        f"sha256:{HEX[:12]}",
        HEX[:11] + "g",
        "",
        f"{HEX}\n",
    ],
)
def test_other_names_are_no_ids(name: str) -> None:
    assert not refs.is_id(name)
