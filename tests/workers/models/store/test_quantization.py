"""Which files a quantisation means."""

from __future__ import annotations

import pytest

from shared.model_errors import ModelNotFound, UnsupportedArtifact
from workers.models.remote.quantization import choose

FILES = (
    "README.md",
    "config.json",
    "m-Q2_K.gguf",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-IQ4_XS.gguf",
    "m-Q8_0.gguf",
    "m-BF16.gguf",
    "m-UD-Q4_K_XL.gguf",
    "m.F16.gguf",
)


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        ("latest", "m-Q4_K_M.gguf"),
        ("main", "m-Q4_K_M.gguf"),
        ("", "m-Q4_K_M.gguf"),
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q8_0", "m-Q8_0.gguf"),
        ("IQ4_XS", "m-IQ4_XS.gguf"),
        ("F16", "m.F16.gguf"),
        ("bf16", "m-BF16.gguf"),
        ("UD-Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        ("Q4_K_S", "m-Q4_K_S.gguf"),
    ],
)
def test_the_named_one(asked: str, file: str) -> None:
    assert choose(FILES, asked, repository="o/r").weights == (file,)


def test_an_exact_label_goes_before_a_longer_one() -> None:
    files = ("a-Q4_K_M.gguf", "b-Q4_K.gguf")
    assert choose(files, "Q4_K", repository="o/r").weights == ("b-Q4_K.gguf",)


def test_an_unknown_one_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match="no Q5_K_M; it has BF16, F16, IQ4_XS, Q2_K, Q4_K_M"):
        choose(FILES, "Q5_K_M", repository="o/r")


def test_no_default_takes_the_first_by_name() -> None:
    assert choose(("z.gguf", "b-Q8_0.gguf"), "latest", repository="o/r").weights == ("b-Q8_0.gguf",)


def test_all_shards_in_order() -> None:
    shards = tuple(f"Q8_0/m-Q8_0-{at:05d}-of-00003.gguf" for at in (1, 2, 3))
    found = choose((*reversed(shards), "m-Q4_0.gguf"), "Q8_0", repository="o/r")
    assert found.weights == shards


def test_a_missing_shard_is_an_error() -> None:
    with pytest.raises(UnsupportedArtifact, match="2 of 3"):
        choose(
            ("m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf"), "Q8_0", repository="o/r"
        )


def test_the_projector_comes_along_and_f16_is_preferred() -> None:
    files = ("m-Q4_0.gguf", "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf", "mmproj-m-F32.gguf")
    found = choose(files, "Q4_0", repository="o/r")
    assert (found.weights, found.projector) == (("m-Q4_0.gguf",), "mmproj-m-F16.gguf")
    assert choose(files, "latest", repository="o/r").weights == ("m-Q4_0.gguf",)
    assert choose(("m.gguf",), "latest", repository="o/r").projector is None


def test_a_repository_without_gguf_says_so() -> None:
    with pytest.raises(UnsupportedArtifact, match="has no GGUF files"):
        choose(("model.safetensors", "mmproj-F16.gguf"), "latest", repository="o/r")
