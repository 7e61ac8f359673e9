"""One fingerprint for what computes alike, another for what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from shared.settings import Settings
from workers import fingerprint
from workers.models.adapters import AdapterFile
from workers.models.gguf import ModelFacts

FACTS = ModelFacts(path="/a.gguf", size_bytes=9, architecture="llama")
ONE = fingerprint.of(FACTS, Settings())


def test_it_has_the_form_clients_know() -> None:
    assert ONE.startswith("fp_")
    assert len(ONE) == 13


def test_where_the_file_lies_and_how_many_are_served_is_no_matter() -> None:
    assert fingerprint.of(replace(FACTS, path="/b"), Settings(slots=2)) == ONE


def test_adapters_change_it_by_name_and_content() -> None:
    style = AdapterFile(name="style", path=Path("/a"), size_bytes=1, digest="sha256:1")

    def of(*adapters: AdapterFile) -> str:
        return fingerprint.of(FACTS, Settings(), adapters)

    assert of(replace(style, path=Path("/b"))) == of(style)
    others = (replace(style, digest="sha256:2"), replace(style, name="tone"))
    assert len({ONE, of(style), *map(of, others)}) == 4


@pytest.mark.parametrize(
    ("facts", "settings"),
    [
        ({"quantization": "Q8_0"}, {}),
        ({}, {"cache_type_k": "q8_0"}),
        ({}, {"cache_type_v": "q8_0"}),
        ({}, {"flash_attention": "off"}),
        ({}, {"exact": True}),
        ({}, {"gpu_layers": 0}),
    ],
)
def test_what_changes_the_numbers_changes_it(
    facts: dict[str, Any], settings: dict[str, Any]
) -> None:
    other = fingerprint.of(replace(FACTS, **facts), replace(Settings(), **settings))
    assert other != ONE
