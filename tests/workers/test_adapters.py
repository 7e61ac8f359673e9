"""Adapters from the settings to the model: named right, checked, counted, and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis

from shared import settings
from shared.settings import BadSetting, Settings
from tests.model.lora import write_lora
from tests.workers.models.test_gguf import model
from workers import local
from workers.library import Library
from workers.models import adapters
from workers.models.gguf import BadModelFile, ModelFacts

LLAMA = ModelFacts(path="m.gguf", size_bytes=9, architecture="llama")


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora") / "style.gguf")


def test_of_which_model_an_adapter_is(style: Path) -> None:
    def found(given: str, of: str = "ai/smollm2") -> dict[str, dict[str, Path]]:
        return local.adapters(Settings(adapters=given, model=of))

    assert found("") == {}
    assert found(f"a={style}, b={style}") == {"ai/smollm2:latest": {"a": style, "b": style}}
    assert found(f"x/y:1:a={style}") == {"x/y:1": {"a": style}}
    host = "localhost:5000/x/y"
    assert found(f"{host}:a={style}", of="a,b") == {f"{host}:latest": {"a": style}}


@pytest.mark.parametrize(
    ("given", "of", "why"),
    [
        ("a={style}", "one,two", "does not say of which model"),
        ("a={style}", "", "does not say of which model"),
        ("a={style},a={style}", "one", "two adapters 'a'"),
        ("a={style}x", "one", "there is no file"),
    ],
)
def test_what_names_no_adapter_stops_the_start(style: Path, given: str, of: str, why: str) -> None:
    with pytest.raises(BadSetting, match=why) as caught:
        local.adapters(Settings(adapters=given.format(style=style), model=of))
    assert "CARAVAN_ADAPTERS" in str(caught.value)


@pytest.mark.parametrize("given", ["a", "a=", "=x", "a b=x", "a=x,,b=y", "m:=x"])
def test_what_is_no_adapter_is_refused_as_a_setting(given: str) -> None:
    with pytest.raises(BadSetting, match="CARAVAN_ADAPTERS"):
        settings.read({"CARAVAN_ADAPTERS": given})


def test_a_file_that_fits_by_its_header(style: Path) -> None:
    found = adapters.read("style", style, LLAMA)
    assert (found.name, found.size_bytes) == ("style", style.stat().st_size)
    assert found.digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"general.type": "model"}, "is no LoRA adapter"),
        ({"adapter.type": None}, "is no LoRA adapter"),
        ({"adapter.lora.alpha": 8}, "has no number as adapter.lora.alpha"),
        ({"adapter.alora.invocation_tokens": [1, 2]}, "aLoRA"),
        ({"general.architecture": "qwen2"}, "is made for qwen2, and the model is llama"),
    ],
)
def test_a_file_that_does_not_fit_says_why(
    tmp_path: Path, header: dict[str, Any], why: str
) -> None:
    path = write_lora(tmp_path / "odd.gguf", **header)
    with pytest.raises(BadModelFile, match=why) as caught:
        adapters.read("odd", path, LLAMA)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (path := tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(BadModelFile, match=r"adapter 'junk'.*not a GGUF"):
        adapters.read("junk", path, LLAMA)


async def test_its_memory_is_counted(fake_redis: ArqRedis, tmp_path: Path, style: Path) -> None:
    (path := tmp_path / "m.gguf").write_bytes(model())
    plain = Library(Settings(model=f"m={path}"), fake_redis, None)
    more = Library(Settings(model=f"m={path}", adapters=f"style={style}"), fake_redis, None)
    ref, size = "ai/m:latest", style.stat().st_size
    assert await more.need_bytes(ref) == await plain.need_bytes(ref) + size
    order = await more.order(ref, heard=lambda done: True)
    assert [one.name for one in order.adapters] == ["style"]
    assert order.need.total == await more.need_bytes(ref)
