"""Models named by the settings as files, and the projectors beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.model_config import ModelConfig
from shared.setting_values import split_paths
from shared.settings import BadSetting, Settings
from tests.model.tiny_vision import write_llava, write_projector, write_ultravox
from workers import local
from workers.library import Library
from workers.models import cards, gguf, projectors
from workers.models.gguf import BadModelFile
from workers.models.store.package import Extras, package
from workers.models.store.store import open_store
from workers.order import order_of


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
    blind = order_of("a/blind:latest", model, facts, ModelConfig(), settings)
    sees = await library._order_of_file("a/sees:latest", ModelConfig())
    assert sees.projector == projectors.read(projector)
    assert sees.need.total > blind.need.total + projector.stat().st_size
    assert blind.projector is None


def test_of_which_model_a_draft_model_is(tmp_path: Path) -> None:
    (small := tmp_path / "small.gguf").write_bytes(b"GGUF")

    def found(given: str, of: str = "ai/smollm2") -> dict[str, Path]:
        return local.draft_models(Settings(draft_model=given, model=of))

    assert found("") == {}
    assert found(str(small)) == {"ai/smollm2:latest": small}
    assert found(f"x/y:1={small}, z={small}") == {"x/y:1": small, "ai/z:latest": small}


@pytest.mark.parametrize(
    ("given", "of", "why"),
    [
        ("{small}", "one,two", "does not say of which model"),
        ("one={small},one:latest={small}", "one", "two draft models"),
        ("{small}x", "one", "there is no file"),
    ],
)
def test_what_names_no_draft_model_stops_the_start(
    tmp_path: Path, given: str, of: str, why: str
) -> None:
    (small := tmp_path / "small.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadSetting, match=f"CARAVAN_DRAFT_MODEL: .*{why}"):
        local.draft_models(Settings(draft_model=given.format(small=small), model=of))


async def test_the_memory_of_a_draft_model_is_counted(tmp_path: Path) -> None:
    model = write_llava(tmp_path)[0]
    order = order_of(
        "a/m:latest", model, gguf.read(model), ModelConfig(), Settings(model=f"a/m={model}")
    )

    async def need(**more: Any) -> tuple[int, Path | None]:
        settings = Settings(model=f"a/m={model}", draft_model=str(model), **more)
        library = Library(settings, redis=None, depot=None)  # type: ignore[arg-type]
        found = library._beside(replace(order, settings=settings))
        return found.need.total, found.draft

    assert await need() == (2 * order.need.total, model)
    assert await need(draft_max=0) == (order.need.total, None)
