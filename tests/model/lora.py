"""Writes LoRA adapters with random numbers that fit the default model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.model.tiny_gguf import write_file

WIDTH, LAYERS, RANK = 576, 30, 4
LAYERS_CHANGED = ("attn_q", "attn_output")
HEADER: dict[str, Any] = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
}


def write_lora(path: Path, *, seed: int = 1, width: int = WIDTH, **header: Any) -> Path:
    """Strong enough to make the model say something else; `width` other than the default's fits
    another model. A header value of None is left away."""
    draw = np.random.default_rng(seed)
    tensors = {}
    for n in range(LAYERS):
        for layer in LAYERS_CHANGED:
            name = f"blk.{n}.{layer}.weight"
            tensors[f"{name}.lora_a"] = draw.normal(0, 0.05, (RANK, width))
            tensors[f"{name}.lora_b"] = draw.normal(0, 0.2, (width, RANK))
    pairs = {key: value for key, value in {**HEADER, **header}.items() if value is not None}
    return write_file(path, pairs, tensors)
