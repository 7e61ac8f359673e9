"""The GGUF header reader: what it tells of a good file, and that a bad one is an error."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.models.mutants import mutants
from workers.models import gguf
from workers.models.gguf import BadModelFile, ModelFacts


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(found: Any) -> bytes:
    """A GGUF value with its type."""
    match found:
        case bool():
            return struct.pack("<I?", 7, found)
        case int():
            return struct.pack("<II", 4, found)
        case str():
            return struct.pack("<I", 8) + text(found)
        case tuple():
            return struct.pack(f"<IIQ{len(found)}i", 9, 5, len(found), *found)
        case list():
            return struct.pack("<IIQ", 9, 8, len(found)) + b"".join(map(text, found))
    raise AssertionError(found)


PAIRS: dict[str, Any] = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.context_length": 4096,
    "llama.embedding_length": 64,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "ü"],
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.chat_template": "{{ messages }}",
    "tokenizer.chat_template.tool_use": "{{ tools }}",
}


def model(pairs: dict[str, Any] = PAIRS, *, weights: bytes = bytes(128)) -> bytes:
    """A GGUF of one F32 tensor with 4 x 8 elements."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs))
    body = b"".join(text(key) + value(found) for key, found in pairs.items())
    tensor = text("w") + struct.pack("<IQQIQ", 2, 4, 8, 0, 0)
    start = len(head + body + tensor)
    return head + body + tensor + bytes(-start % 32) + weights


def read(tmp_path: Path, data: bytes) -> ModelFacts:
    """Facts of these bytes."""
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return gguf.read(path)


def test_facts_of_a_good_file(tmp_path: Path) -> None:
    facts = read(tmp_path, model())
    assert (facts.architecture, facts.context_length, facts.embedding_length) == ("llama", 4096, 64)
    assert (facts.quantization, facts.parameters, facts.vocab_size) == ("Q4_K_M", 32, 3)
    assert (facts.eos_token, facts.bos_token, facts.add_bos) == (2, -1, True)
    assert facts.chat_template == "{{ messages }}"
    assert facts.templates == {"tool_use": "{{ tools }}"}
    assert facts.pooling == ""
    assert facts.size_bytes == len(model())


def test_pooling_and_attention_of_an_embedding_model(tmp_path: Path) -> None:
    pairs = {
        "general.architecture": "bert",
        "bert.pooling_type": 1,
        "bert.attention.causal": False,
    }
    facts = read(tmp_path, model(pairs))
    assert (facts.pooling, facts.causal) == ("mean", False)


def test_quantization_is_counted_where_it_is_not_named(tmp_path: Path) -> None:
    assert read(tmp_path, model({"general.architecture": "llama"})).quantization == "F32"


def test_a_file_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = model()
    for length in range(len(whole)):
        with pytest.raises(BadModelFile):
            read(tmp_path, whole[:length])


LIES = {
    "huge string": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63) + bytes(64),
    "many values": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40) + bytes(64),
    "many tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0) + bytes(64),
    "long array": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("a")
    + struct.pack("<IIQ", 9, 4, 2**62)
    + bytes(64),
    "array of strings": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("a")
    + struct.pack("<IIQ", 9, 8, 2**62)
    + bytes(64),
    "deep array": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("a")
    + struct.pack("<I", 9)
    + struct.pack("<IQ", 9, 1) * 40
    + bytes(64),
    "unknown type": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 77),
    "version": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "no architecture": model({"general.name": "x"}),
    "alignment": model({"general.architecture": "llama", "general.alignment": 0}),
    "weights cut": model(weights=bytes(127)),
    "a token twice": model({**PAIRS, "tokenizer.ggml.tokens": ["a", "b", "a"]}),
    "more tokens than bytes": b"GGUF"
    + struct.pack("<IQQ", 3, 0, 1)
    + text("tokenizer.ggml.tokens")
    + struct.pack("<IIQ", 9, 8, 2**19)
    + bytes(64),
    "not a model": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lying_header_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadModelFile):
        read(tmp_path, LIES[name])


@given(at=st.integers(0, len(model()) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_is_facts_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    data = bytearray(model())
    data[at] = byte
    try:
        facts = read(tmp_path_factory.mktemp("changed"), bytes(data))
    except BadModelFile:
        return
    assert isinstance(facts, ModelFacts)


def test_empty_tokens_may_repeat(tmp_path: Path) -> None:
    """The library gives them names of their own."""
    facts = read(tmp_path, model({**PAIRS, "tokenizer.ggml.tokens": ["", "a", ""]}))
    assert facts.vocab_size == 3


def test_harmed_files_are_facts_or_an_error(tmp_path: Path) -> None:
    told = 0
    for _, data in mutants(tmp_path, 200):
        try:
            assert read(tmp_path, data).architecture
        except BadModelFile:
            told += 1
    assert 100 < told < 200  # most are seen here, some only by who loads the file


def test_layers_that_differ_are_counted_one_by_one(tmp_path: Path) -> None:
    heads = {"llama.attention.head_count_kv": (0, 4, 2), "llama.attention.key_length": 64}
    facts = read(tmp_path, model({**PAIRS, **heads}))
    assert (facts.kv_heads, facts.head_count_kv, facts.key_length) == ((0, 4, 2), 4, 64)
    assert read(tmp_path, model()).kv_heads == ()


def test_a_negative_number_of_heads_is_no_number(tmp_path: Path) -> None:
    facts = read(tmp_path, model({**PAIRS, "llama.attention.head_count_kv": (-1, 4)}))
    assert facts.kv_heads == ()
