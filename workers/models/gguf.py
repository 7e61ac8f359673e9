"""Header of a GGUF file: what a model says about itself. Reads no weights, trusts no number.

The file may come from anywhere: every count, length and offset is checked against the file's size
before it is used, arrays are walked and not kept, and whatever is wrong raises BadModelFile.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from workers.models.gguf_arrays import array, vocabulary
from workers.models.gguf_reader import BadModelFile, HeaderReader
from workers.models.gguf_tables import (
    ARRAY,
    FILE_TYPES,
    POOLING,
    SCALARS,
    STRING,
    TENSOR_TYPES,
)

__all__ = ["BadModelFile", "ModelFacts", "read"]
MAX_PAIRS = 65_536
MAX_TENSORS = 262_144
MAX_KEY_BYTES = 65_535
MAX_DIMENSIONS = 4
TEMPLATE = "tokenizer.chat_template"
TOKENS = ("tokenizer.ggml.tokens", ARRAY)


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a GGUF header says. Zero and empty mean: the file does not say.

    `kv_heads` are the key-value heads of each layer where layers differ (0: it keeps none, but
    `state_floats` numbers for each sequence), else `head_count_kv` is every layer's.
    `templates` are the named ones beside the default (`tool_use`, `rag`, …); `pooling` is none,
    mean, cls, last or rank, and empty for a model that generates. Sizes are bytes.
    """

    path: str
    size_bytes: int
    architecture: str
    name: str = ""
    context_length: int = 0
    embedding_length: int = 0
    block_count: int = 0
    head_count: int = 0
    head_count_kv: int = 0
    kv_heads: tuple[int, ...] = ()
    key_length: int = 0
    value_length: int = 0
    feed_forward_length: int = 0
    state_floats: int = 0
    expert_count: int = 0
    parameters: int = 0
    quantization: str = "unknown"
    tokenizer: str = ""
    pre_tokenizer: str = ""
    vocab_size: int = 0
    bos_token: int = -1
    eos_token: int = -1
    add_bos: bool | None = None
    chat_template: str = ""
    templates: dict[str, str] = {}
    pooling: str = ""
    causal: bool = True
    sliding_window: int = 0
    size_label: str = ""
    license: str = ""
    split_count: int = 1


def read(path: str | Path) -> ModelFacts:
    """Facts of the GGUF at `path`. BadModelFile if it is none; OSError if it cannot be opened."""
    size, pairs, tensors = header(path)
    return _facts(str(path), size, pairs, tensors)


def header(path: str | Path) -> tuple[int, dict[str, Any], _Tensors]:
    """The file's size in bytes, its header's values, its tensors. Raises as `read`."""
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return size, *_header(HeaderReader(file, size))


class _Tensors(msgspec.Struct, frozen=True):
    """All tensors together: number of elements, elements by type name."""

    elements: int
    by_type: dict[str, int]


def _header(reader: HeaderReader) -> tuple[dict[str, Any], _Tensors]:
    if reader.left < 24 or reader.take(4) != b"GGUF":
        raise BadModelFile("not a GGUF model file")
    version = reader.number("<I")
    if version not in (2, 3):
        raise BadModelFile(f"GGUF version {version} is not supported (2 and 3 are)")
    tensors, pairs = reader.number("<Q"), reader.number("<Q")
    if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
        raise BadModelFile(f"the header claims {pairs} values and {tensors} tensors")
    found = _pairs(reader, pairs)
    return found, _tensors(reader, tensors, _alignment(found))


def _pairs(reader: HeaderReader, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = reader.string(limit=MAX_KEY_BYTES)
        kind = reader.number("<I")
        found[key] = vocabulary(reader) if (key, kind) == TOKENS else _value(reader, kind)
    return found


def _value(reader: HeaderReader, kind: int) -> Any:
    """A scalar, a string, a short array of integers (one a layer), or another array's length."""
    if kind in SCALARS:
        return reader.number(SCALARS[kind])
    if kind == STRING:
        return reader.string()
    if kind == ARRAY:
        return array(reader)
    raise BadModelFile(f"the header has a value of unknown type {kind}")


def _alignment(pairs: dict[str, Any]) -> int:
    alignment = pairs.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise BadModelFile(f"general.alignment is {alignment!r}")
    return alignment


def _tensors(reader: HeaderReader, count: int, alignment: int) -> _Tensors:
    by_type: Counter[str] = Counter()
    end = 0
    for _ in range(count):
        reader.skip_string()
        name, elements, tensor_end = _tensor(reader)
        by_type[name] += elements
        end = max(end, tensor_end)
    start = -(-reader.position // alignment) * alignment
    if end and start + end > reader.position + reader.left:
        raise BadModelFile(
            f"the model file is cut short: its weights need {start + end} bytes, "
            f"it has {reader.position + reader.left}"
        )
    return _Tensors(sum(by_type.values()), dict(by_type))


def _tensor(reader: HeaderReader) -> tuple[str, int, int]:
    """Type name, elements, and where the data end, counted from the start of the weights."""
    dimensions = reader.number("<I")
    if dimensions > MAX_DIMENSIONS:
        raise BadModelFile(f"the header has a tensor of {dimensions} dimensions")
    elements = prod(reader.number("<Q") for _ in range(dimensions))
    kind, offset = reader.number("<I"), reader.number("<Q")
    name, per_block, block_bytes = TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
    return name, elements, offset + -(-elements // per_block) * block_bytes


class _Pairs:
    """Typed looks into the metadata, under the architecture's prefix where one applies."""

    def __init__(self, pairs: dict[str, Any], architecture: str) -> None:
        self._pairs = pairs
        self._architecture = architecture

    def text(self, key: str) -> str:
        found = self._pairs.get(key)
        return found if isinstance(found, str) else ""

    def number(self, key: str, default: int = 0) -> int:
        """Of an array with one for each layer, the largest."""
        found = self._pairs.get(key)
        found = max(found, default=default) if isinstance(found, tuple) else found
        fits = isinstance(found, int) and not isinstance(found, bool) and abs(found) < 1 << 53
        return found if fits and found is not None else default

    def own(self, key: str) -> int:
        return self.number(f"{self._architecture}.{key}")

    def each(self, key: str) -> tuple[int, ...]:
        found = self._pairs.get(f"{self._architecture}.{key}")
        fits = isinstance(found, tuple) and all(0 <= one < 1 << 31 for one in found)
        return found if fits and found is not None else ()

    def flag(self, key: str) -> bool | None:
        found = self._pairs.get(key)
        return found if isinstance(found, bool) else None

    def templates(self) -> dict[str, str]:
        start = TEMPLATE + "."
        named = {key.removeprefix(start): self.text(key) for key in self._pairs}
        return {name: text for name, text in named.items() if text and start + name in self._pairs}


def _facts(path: str, size: int, found: dict[str, Any], tensors: _Tensors) -> ModelFacts:
    architecture = found.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise BadModelFile("the header does not name an architecture")
    pairs = _Pairs(found, architecture)
    return ModelFacts(
        path=path,
        size_bytes=size,
        architecture=architecture,
        name=pairs.text("general.name"),
        context_length=pairs.own("context_length"),
        embedding_length=pairs.own("embedding_length"),
        block_count=pairs.own("block_count"),
        head_count=pairs.own("attention.head_count"),
        head_count_kv=pairs.own("attention.head_count_kv"),
        kv_heads=pairs.each("attention.head_count_kv"),
        key_length=pairs.own("attention.key_length"),
        value_length=pairs.own("attention.value_length"),
        feed_forward_length=pairs.own("feed_forward_length"),
        state_floats=_state_floats(pairs),
        expert_count=pairs.own("expert_count"),
        parameters=pairs.number("general.parameter_count") or tensors.elements,
        quantization=_quantization(pairs, tensors),
        tokenizer=pairs.text("tokenizer.ggml.model"),
        pre_tokenizer=pairs.text("tokenizer.ggml.pre"),
        vocab_size=pairs.number("tokenizer.ggml.tokens") or pairs.own("vocab_size"),
        bos_token=pairs.number("tokenizer.ggml.bos_token_id", -1),
        eos_token=pairs.number("tokenizer.ggml.eos_token_id", -1),
        add_bos=pairs.flag("tokenizer.ggml.add_bos_token"),
        chat_template=pairs.text(TEMPLATE),
        templates=pairs.templates(),
        pooling=_pooling(pairs, found, architecture),
        causal=pairs.flag(f"{architecture}.attention.causal") is not False,
        sliding_window=pairs.own("attention.sliding_window"),
        size_label=pairs.text("general.size_label"),
        license=pairs.text("general.license"),
        split_count=pairs.number("split.count", 1),
    )


def _state_floats(pairs: _Pairs) -> int:
    """What a recurrent layer keeps of one sequence, as llama.cpp counts it."""
    inner, state = pairs.own("ssm.inner_size"), pairs.own("ssm.state_size")
    groups, kernel = pairs.own("ssm.group_count"), pairs.own("ssm.conv_kernel")
    return max(0, inner * state + max(0, kernel - 1) * (inner + 2 * groups * state))


def _pooling(pairs: _Pairs, found: dict[str, Any], architecture: str) -> str:
    key = f"{architecture}.pooling_type"
    return POOLING.get(pairs.number(key, -1), "") if key in found else ""


def _quantization(pairs: _Pairs, tensors: _Tensors) -> str:
    named = FILE_TYPES.get(pairs.number("general.file_type", -1))
    if named or not tensors.by_type:
        return named or "unknown"
    return max(tensors.by_type, key=lambda name: tensors.by_type[name])
