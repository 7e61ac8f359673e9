"""Writes tiny GGUF models with random weights and a vocabulary of bytes: for the mechanics of
architectures of which no small real model is at hand. Token 3 + b is byte b; 2 ends.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, INNER, STATE, RANK, CONV, HEADS, LAYERS = 64, 128, 8, 8, 4, 2, 6
WINDOW = 16
BYTE_OFFSET = 3
ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
UNKNOWN, CONTROL, BYTE = 2, 3, 6
VOCABULARY = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)] + [
    (f"<0x{byte:02X}>", BYTE) for byte in range(256)
]

Tensors = dict[str, NDArray[np.float32]]


def write_mamba(path: Path) -> Path:
    """A recurrent model: its memory is one state, not a row of cells."""
    draw = np.random.default_rng(7)
    tensors = _ends(draw)
    for n in range(LAYERS):
        tensors |= {
            f"blk.{n}.attn_norm.weight": np.ones(WIDTH),
            f"blk.{n}.ssm_in.weight": _random(draw, 2 * INNER, WIDTH),
            f"blk.{n}.ssm_conv1d.weight": _random(draw, INNER, CONV),
            f"blk.{n}.ssm_conv1d.bias": _random(draw, INNER),
            f"blk.{n}.ssm_x.weight": _random(draw, RANK + 2 * STATE, INNER),
            f"blk.{n}.ssm_dt.weight": _random(draw, INNER, RANK),
            f"blk.{n}.ssm_dt.bias": _random(draw, INNER),
            f"blk.{n}.ssm_a": -np.exp(_random(draw, INNER, STATE)),
            f"blk.{n}.ssm_d": np.ones(INNER),
            f"blk.{n}.ssm_out.weight": _random(draw, WIDTH, INNER),
        }
    facts = {
        "mamba.context_length": 512,
        "mamba.embedding_length": WIDTH,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.block_count": LAYERS,
        "mamba.ssm.conv_kernel": CONV,
        "mamba.ssm.inner_size": INNER,
        "mamba.ssm.state_size": STATE,
        "mamba.ssm.time_step_rank": RANK,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
    }
    return _write(path, "mamba", facts, tensors)


def write_gemma3(path: Path, **more: Any) -> Path:
    """A model of which most layers look back over a short window only."""
    draw = np.random.default_rng(8)
    tensors = _ends(draw)
    for n in range(LAYERS):
        for norm in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            tensors[f"blk.{n}.{norm}.weight"] = np.ones(WIDTH)
        for norm in ("attn_q_norm", "attn_k_norm"):
            tensors[f"blk.{n}.{norm}.weight"] = np.ones(WIDTH // HEADS)
        for square in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"blk.{n}.{square}.weight"] = _random(draw, WIDTH, WIDTH)
        for up in ("ffn_gate", "ffn_up"):
            tensors[f"blk.{n}.{up}.weight"] = _random(draw, INNER, WIDTH)
        tensors[f"blk.{n}.ffn_down.weight"] = _random(draw, WIDTH, INNER)
    facts = {
        "gemma3.context_length": 512,
        "gemma3.embedding_length": WIDTH,
        "gemma3.feed_forward_length": INNER,
        "gemma3.attention.head_count": HEADS,
        "gemma3.attention.head_count_kv": HEADS,
        "gemma3.attention.key_length": WIDTH // HEADS,
        "gemma3.attention.value_length": WIDTH // HEADS,
        "gemma3.attention.sliding_window": WINDOW,
        "gemma3.block_count": LAYERS,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-5,
    }
    return _write(path, "gemma3", {**facts, **more}, tensors)


def write_plain(path: Path, architecture: str = "llama", **facts: Any) -> Path:
    """A model of plain attention: `llama`, or `qwen2vl` with positions of three axes."""
    draw = np.random.default_rng(9)
    tensors = _ends(draw)
    for n in range(LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            tensors[f"blk.{n}.{norm}.weight"] = np.ones(WIDTH)
        for square in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"blk.{n}.{square}.weight"] = _random(draw, WIDTH, WIDTH)
            if architecture == "qwen2vl" and square != "attn_output":
                tensors[f"blk.{n}.{square}.bias"] = np.zeros(WIDTH)
        for up in ("ffn_gate", "ffn_up"):
            tensors[f"blk.{n}.{up}.weight"] = _random(draw, INNER, WIDTH)
        tensors[f"blk.{n}.ffn_down.weight"] = _random(draw, WIDTH, INNER)
    shape = {
        "context_length": 512,
        "embedding_length": WIDTH,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "block_count": LAYERS,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if architecture == "qwen2vl":
        shape["rope.dimension_sections"] = [4, 6, 6, 0]
    named = {f"{architecture}.{key}": value for key, value in shape.items()}
    return _write(path, architecture, {**named, **facts}, tensors)


def _random(draw: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    return draw.normal(0, 1 / np.sqrt(shape[-1]), shape)


def _ends(draw: np.random.Generator) -> Tensors:
    """Small embeddings, so that what the layers remember decides and not the last token."""
    return {
        "token_embd.weight": draw.normal(0, 0.05, (len(VOCABULARY), WIDTH)),
        "output.weight": draw.normal(0, 0.3, (len(VOCABULARY), WIDTH)),
        "output_norm.weight": np.ones(WIDTH),
    }


def _write(path: Path, architecture: str, facts: dict[str, Any], tensors: Tensors) -> Path:
    """A model that speaks bytes."""
    return write_file(path, {**_vocabulary(architecture), **facts}, tensors)


def _vocabulary(architecture: str) -> dict[str, Any]:
    return {
        "general.architecture": architecture,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [text for text, _ in VOCABULARY],
        "tokenizer.ggml.scores": [0.0] * len(VOCABULARY),
        "tokenizer.ggml.token_type": [kind for _, kind in VOCABULARY],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def write_file(path: Path, pairs: dict[str, Any], tensors: Tensors) -> Path:
    """Any GGUF."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(_string(key) + _value(value) for key, value in pairs.items())
    data = b""
    for name, numbers in tensors.items():
        shape = tuple(reversed(numbers.shape))
        half = numbers.dtype == np.float16
        kind = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, int(half), len(data))
        head += _string(name) + kind
        data += _padded(numbers.astype("<f2" if half else "<f4").tobytes())
    path.write_bytes(_padded(head) + data)
    return path


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    match value:
        case str():
            return struct.pack("<I", STRING) + _string(value)
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
        case list():
            return _array(value)
    raise TypeError(f"no GGUF type for {value!r}")


def _array(values: list[Any]) -> bytes:
    kinds = {str: STRING, float: FLOAT32, int: INT32}
    head = struct.pack("<IIQ", ARRAY, kinds[type(values[0])], len(values))
    if isinstance(values[0], str):
        return head + b"".join(map(_string, values))
    return head + struct.pack(
        f"<{len(values)}{'f' if isinstance(values[0], float) else 'i'}", *values
    )


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)
