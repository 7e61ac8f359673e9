"""Models named by the settings as files, and the projectors beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import BadSetting, Settings, split_paths
from tests.model.tiny_vision import write_llava, write_projector, write_ultravox
from workers import load, local
from workers.library import Library
from workers.models import cards, gguf, projectors
from workers.models.gguf import BadModelFile
from workers.models.store.package import Extras, package
from workers.models.store.store import open_store


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("", ("", "")),
        ("/m/a.gguf", ("/m/a.gguf", "")),
        ("/m/a.gguf+/m/mmproj.gguf", ("/m/a.gguf", "/m/mmproj.gguf")),
        ("/c++/a.GGUF+b", ("/c++/a.GGUF", "b")),
        ("/c++/a.bin", ("/c++/a.bin", "")),
    ],
)
def test_a_path_and_itswrite_projector(given: str, paths: tuple[str, str]) -> None:
    assert split_paths(given) == paths


def test_files_and_projectors(tmp_path: Path) -> None:
    model, projector = write_llava(tmp_path)
    settings = Settings(model=f"a/sees={model}+{projector},a/blind={model}")
    assert local.files(settings) == {"a/sees:latest": model, "a/blind:latest": model}
    assert local.projectors(settings) == {"a/sees:latest": projector}
    assert local.resolve(settings) == ("a/sees:latest", model)
    with pytest.raises(BadSetting, match="there is no file"):
        local.projectors(Settings(model=f"a/sees={model}+{tmp_path}/gone.gguf"))


def test_what_a_projector_is_for(tmp_path: Path) -> None:
    model, eyes = write_llava(tmp_path)
    assert projectors.read(eyes).capabilities == ("vision",)
    assert projectors.read(eyes).kind == "mlp"
    (tmp_path / "ears").mkdir()
    assert projectors.read(write_ultravox(tmp_path / "ears")[1]).capabilities == ("audio",)
    with pytest.raises(BadModelFile, match="no projector"):
        projectors.read(model)
    with pytest.raises(BadModelFile, match="kind deepseek4v are not supported"):
        projectors.read(write_projector(tmp_path / "mmproj-alone.gguf", "deepseek4v", {}))


def test_the_catalog_says_vision_exactly_with_awrite_projector(tmp_path: Path) -> None:
    model, projector = write_llava(tmp_path)
    store = open_store(tmp_path / "store")
    sees = package(store, [model], "a/sees:latest", extras=Extras(projector=projector))
    blind = package(store, [model], "a/blind:latest")
    assert "vision" in cards.of_stored(store, sees).capabilities
    assert "vision" not in cards.of_stored(store, blind).capabilities
    bundle = store.bundle(sees.id)
    assert bundle.projector is not None
    assert projectors.read(bundle.projector).capabilities == ("vision",)


async def test_an_order_has_the_projector_and_its_memory(tmp_path: Path) -> None:
    model, projector = write_llava(tmp_path)
    settings = Settings(model=f"a/sees={model}+{projector},a/blind={model}")
    library = Library(settings, redis=None, depot=None)  # type: ignore[arg-type]
    facts = gguf.read(model)
    blind = load.order("a/blind:latest", model, facts, load.ModelConfig(), settings)
    sees = await library._order_of_file("a/sees:latest", load.ModelConfig())
    assert sees.projector == projectors.read(projector)
    assert sees.need.total > blind.need.total + projector.stat().st_size
    assert blind.projector is None
