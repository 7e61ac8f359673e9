"""Settings that are more than a number: lists of models, amounts of memory."""

from __future__ import annotations

import pytest

from shared.settings import BadSetting, Settings, read


@pytest.mark.parametrize(
    ("given", "amount"),
    [("0", 0), ("100", 100), ("1KB", 1000), ("512MiB", 512 << 20), ("1.5GB", 1_500_000_000)],
)
def test_memory_is_a_number_with_a_unit(given: str, amount: int) -> None:
    assert read({"CARAVAN_MEMORY": given}).memory_bytes == amount


@pytest.mark.parametrize("given", ["much", "-1", "5 GiB", "1X", "GiB"])
def test_other_memory_stops_the_start(given: str) -> None:
    with pytest.raises(BadSetting, match="CARAVAN_MEMORY"):
        read({"CARAVAN_MEMORY": given})


@pytest.mark.parametrize("name", ["CARAVAN_CACHE_TYPE_K", "CARAVAN_CACHE_TYPE_V"])
def test_cells_of_other_types_stop_the_start(name: str) -> None:
    assert read({name: "bf16"}) != Settings()
    with pytest.raises(BadSetting, match=f"{name}='q5_1'"):
        read({name: "q5_1"})


@pytest.mark.parametrize("values", ["q8_0", "q4_0"])
def test_quantised_values_without_flash_attention_stop_the_start(values: str) -> None:
    given = {"CARAVAN_FLASH_ATTENTION": "off"}
    assert read({**given, "CARAVAN_CACHE_TYPE_K": values}).flash_attention == "off"
    with pytest.raises(BadSetting, match=f"CARAVAN_FLASH_ATTENTION='off'.*{values}"):
        read({**given, "CARAVAN_CACHE_TYPE_V": values})


def test_models_are_a_list() -> None:
    assert Settings(model="a=/x/y=1.gguf, ai/b ,").models == (("a", "/x/y=1.gguf"), ("ai/b", ""))
    assert Settings(model="").models == ()
