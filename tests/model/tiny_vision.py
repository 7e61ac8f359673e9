"""Writes projectors with random weights beside the tiny models, and images to show them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.model.tiny_gguf import WIDTH, Tensors, write_file, write_gemma3, write_plain

SIDE, PATCH, INSIDE, BLOCKS, EYES = 32, 8, 32, 2, 2
MELS, HEARD, STACK = 80, 1500, 100
Pair = tuple[Path, Path]


def write_llava(folder: Path, **facts: Any) -> Pair:
    """Positions and attention as for text; 16 embeddings an image."""
    model = write_plain(folder / "model.gguf", **facts)
    draw = np.random.default_rng(21)
    tensors = _encoder(draw) | {
        "mm.0.weight": _random(draw, WIDTH, INSIDE),
        "mm.0.bias": np.zeros(WIDTH),
        "mm.2.weight": _random(draw, WIDTH, WIDTH),
        "mm.2.bias": np.zeros(WIDTH),
    }
    return model, write_projector(folder / "mmproj.gguf", "mlp", tensors)


def write_qwen(folder: Path, **facts: Any) -> Pair:
    """Positions of three axes, as many embeddings as the image is large."""
    model = write_plain(folder / "model.gguf", "qwen2vl", **facts)
    draw = np.random.default_rng(22)
    encoder = _encoder(draw)
    del encoder["v.position_embd.weight"]
    tensors = encoder | {
        "v.patch_embd.weight.1": encoder["v.patch_embd.weight"],
        "mm.0.weight": _random(draw, 4 * INSIDE, 4 * INSIDE),
        "mm.0.bias": np.zeros(4 * INSIDE),
        "mm.2.weight": _random(draw, WIDTH, 4 * INSIDE),
        "mm.2.bias": np.zeros(WIDTH),
    }
    return model, write_projector(folder / "mmproj.gguf", "qwen2vl_merger", tensors)


def write_gemma(folder: Path, **facts: Any) -> Pair:
    """Every embedding of an image sees every other: they have to be decoded together."""
    model = write_gemma3(folder / "model.gguf", **facts)
    draw = np.random.default_rng(23)
    tensors = _encoder(draw) | {
        "mm.input_projection.weight": _random(draw, INSIDE, WIDTH),
        "mm.soft_emb_norm.weight": np.ones(INSIDE),
    }
    pairs = {"clip.vision.projector.scale_factor": 1}
    return model, write_projector(folder / "mmproj.gguf", "gemma3", tensors, **pairs)


def write_ultravox(folder: Path, **facts: Any) -> Pair:
    """Ears in place of eyes: 15 embeddings for every half minute."""
    model = write_plain(folder / "model.gguf", **facts)
    draw = np.random.default_rng(24)
    tensors = {
        name.replace("v.", "a.", 1): numbers
        for name, numbers in _encoder(draw).items()
        if "attn_k.bias" not in name and not name.startswith(("v.pa", "v.pre"))
    }
    tensors |= {
        "a.position_embd.weight": _random(draw, HEARD, INSIDE),
        "a.conv1d.1.weight": _random(draw, INSIDE, MELS, 3).astype(np.float16),
        "a.conv1d.1.bias": np.zeros((INSIDE, 1)),
        "a.conv1d.2.weight": _random(draw, INSIDE, INSIDE, 3).astype(np.float16),
        "a.conv1d.2.bias": np.zeros((INSIDE, 1)),
        "mm.a.mlp.1.weight": _random(draw, 2 * INSIDE, STACK * INSIDE),
        "mm.a.mlp.2.weight": _random(draw, WIDTH, INSIDE),
        "mm.a.norm_pre.weight": np.ones(STACK * INSIDE),
        "mm.a.norm_mid.weight": np.ones(INSIDE),
    }
    pairs = {
        "clip.has_audio_encoder": True,
        "clip.audio.num_mel_bins": MELS,
        "clip.audio.projector.stack_factor": STACK,
    }
    return model, write_projector(folder / "mmproj.gguf", "ultravox", tensors, of="audio", **pairs)


WRITERS: dict[str, Callable[..., Pair]] = {
    "llava": write_llava,
    "qwen": write_qwen,
    "gemma": write_gemma,
    "ultravox": write_ultravox,
}


def png(seed: int, *, width: int = SIDE, height: int = SIDE) -> bytes:
    """An RGB image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return png_of(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), rows)


def png_of(head: bytes, rows: bytes = b"", *, packed: bytes | None = None) -> bytes:
    """A PNG of this header and these rows, or of data packed already."""
    body = zlib.compress(rows) if packed is None else packed
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _encoder(draw: np.random.Generator) -> Tensors:
    tensors = {
        "v.patch_embd.weight": _random(draw, INSIDE, 3, PATCH, PATCH),
        "v.position_embd.weight": _random(draw, (SIDE // PATCH) ** 2, INSIDE),
    }
    for name in ("v.pre_ln", "v.post_ln"):
        tensors |= _norm(name)
    for n in range(BLOCKS):
        tensors |= _norm(f"v.blk.{n}.ln1") | _norm(f"v.blk.{n}.ln2")
        for square in ("attn_q", "attn_k", "attn_v", "attn_out"):
            tensors |= _linear(draw, f"v.blk.{n}.{square}", INSIDE, INSIDE)
        tensors |= _linear(draw, f"v.blk.{n}.ffn_up", 2 * INSIDE, INSIDE)
        tensors |= _linear(draw, f"v.blk.{n}.ffn_down", INSIDE, 2 * INSIDE)
    return tensors


def _norm(name: str) -> Tensors:
    return {f"{name}.weight": np.ones(INSIDE), f"{name}.bias": np.zeros(INSIDE)}


def _linear(draw: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    return {f"{name}.weight": _random(draw, rows, columns), f"{name}.bias": np.zeros(rows)}


def _random(draw: np.random.Generator, *shape: int) -> Any:
    return draw.normal(0, np.prod(shape[1:]) ** -0.5, shape)


def write_projector(
    path: Path, kind: str, tensors: Tensors, of: str = "vision", **more: Any
) -> Path:
    """A projector's file; `of` is what it encodes."""
    shape = {
        "embedding_length": INSIDE,
        "feed_forward_length": 2 * INSIDE,
        "block_count": BLOCKS,
        "projection_dim": WIDTH,
        "attention.head_count": EYES,
        "attention.layer_norm_epsilon": 1e-5,
    }
    eyes = {
        "clip.has_vision_encoder": True,
        "clip.vision.image_size": SIDE,
        "clip.vision.patch_size": PATCH,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }
    pairs = {
        "general.architecture": "clip",
        "clip.projector_type": kind,
        "clip.use_gelu": True,
        **{f"clip.{of}.{key}": value for key, value in shape.items()},
        **(eyes if of == "vision" else {}),
        **more,
    }
    return write_file(path, pairs, tensors)
