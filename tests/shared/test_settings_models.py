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


def test_models_are_a_list() -> None:
    assert Settings(model="a=/x/y=1.gguf, ai/b ,").models == (("a", "/x/y=1.gguf"), ("ai/b", ""))
    assert Settings(model="").models == ()
