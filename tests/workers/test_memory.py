"""What models take by their headers, against what llama.cpp was seen to take; what there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.settings import Settings
from workers import memory
from workers.memory import Free, need
from workers.models.gguf import ModelFacts

MIB = 1 << 20
SMOL = ModelFacts(
    path="smol",
    size_bytes=94 * MIB,
    architecture="llama",
    context_length=8192,
    embedding_length=576,
    block_count=30,
    head_count=9,
    head_count_kv=3,
    feed_forward_length=1536,
    vocab_size=49152,
)
BERT = ModelFacts(
    path="bert",
    size_bytes=40 * MIB,
    architecture="bert",
    context_length=512,
    embedding_length=384,
    block_count=6,
    head_count=12,
    feed_forward_length=1536,
    vocab_size=30522,
    causal=False,
    pooling="mean",
)


def test_as_llama_cpp_was_seen_to_take() -> None:
    """0.3.36: KV 360.00 MiB for 16384 cells, compute 98.29 and output 9.00 MiB; 45.00, 401.05 and
    12.14 for embeddings."""
    found = need(SMOL, Settings())
    assert found.cells == 360 * MIB
    assert found.buffers / MIB == pytest.approx(98.29 + 9.0, rel=0.02)
    assert found.vectors / MIB == pytest.approx(45 + 401.05 + 12.14, rel=0.02)
    assert found.total == found.weights + found.cells + found.buffers


def test_without_flash_attention_a_step_takes_more() -> None:
    """As it was seen: compute 336.58 and output 9.00 MiB for 16384 cells."""
    found = need(SMOL, Settings(flash_attention="off"))
    assert found.buffers / MIB == pytest.approx(336.58 + 9.0, rel=0.02)


@pytest.mark.parametrize(
    ("given", "cells_mib"),
    [
        ({"cells": 4096}, 90),
        ({"context": 512, "slots": 4}, 45),
        ({"context": 500, "slots": 1}, 11.25),  # rounded up to 512 cells
    ],
)
def test_cells_follow_the_settings(given: dict[str, int], cells_mib: float) -> None:
    assert need(SMOL, Settings(**given)).cells == cells_mib * MIB  # type: ignore[arg-type]


def test_smaller_caches_take_less() -> None:
    small = Settings(cache_type_k="q8_0", cache_type_v="q8_0")
    assert need(SMOL, small).cells == 191.25 * MIB
    assert need(SMOL, Settings(cache_type_k="bf16")).cells == 360 * MIB


def test_keys_and_values_are_counted_apart() -> None:
    wide = replace(SMOL, key_length=128, value_length=64)
    assert need(wide, Settings(cache_type_k="q8_0")).cells == (191.25 + 180) * MIB
    assert need(wide, Settings(cache_type_v="q8_0")).cells == (360 + 95.625) * MIB


def test_the_host_cache_counts_where_the_cells_are_in_ram() -> None:
    assert need(SMOL, Settings(gpu_layers=0, host_cache_mib=100)).cells == 460 * MIB


def test_layers_are_counted_one_by_one_where_they_differ() -> None:
    half = replace(SMOL, kv_heads=(3, 0) * 15, state_floats=1000)
    assert need(half, Settings()).cells == 180 * MIB + 1000 * 15 * 16 * 4


def test_heads_of_their_own_size() -> None:
    wide = replace(SMOL, key_length=128, value_length=64)
    assert need(wide, Settings()).cells == 540 * MIB


def test_an_encoder_has_no_cells() -> None:
    found = need(BERT, Settings())
    assert found.cells == found.vectors == 0
    assert 0 < found.buffers < 100 * MIB


def test_a_header_of_zeros_is_no_crash() -> None:
    empty = ModelFacts(path="", size_bytes=7, architecture="x")
    assert need(empty, Settings()).total >= 7


def test_a_reserve_is_left_to_others() -> None:
    assert Free(free=10 << 30, total=10 << 30).to_give == 9 << 30
    assert Free(free=100 << 30, total=100 << 30).to_give == 98 << 30
    assert Free(free=1, total=1 << 30).to_give == 0


def test_a_container_has_its_own_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("800\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert memory._container(tmp_path) == Free(400, 1000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container(tmp_path) is None
    assert memory._container(tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells")
def test_this_machine_is_measured() -> None:
    found = memory.measure(gpu=False)
    assert 0 < found.free <= found.total
    assert memory.resident_bytes() > os.sysconf("SC_PAGE_SIZE")
    assert memory.measure(gpu=True).total > 0
