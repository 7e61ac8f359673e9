"""BERT as sentence-transformers runs it, in numpy: what a GGUF of it is compared with."""

from __future__ import annotations

import json
from math import erf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Rows = NDArray[np.float64]


class Bert:
    """Weights and tokenizer of a folder in Hugging Face's layout; mean pooling, normalised."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        loaded = load_file(folder / "model.safetensors")
        self._weights = {name: value.astype(np.float64) for name, value in loaded.items()}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokens(self, text: str) -> list[int]:
        """With the markers at both ends."""
        return list(self._tokenizer.encode(text).ids)

    def embed(self, text: str) -> NDArray[np.float64]:
        """A vector of length 1."""
        mean = self._encode(self.tokens(text)).mean(axis=0)
        vector: NDArray[np.float64] = mean / np.linalg.norm(mean)
        return vector

    def _encode(self, tokens: list[int]) -> Rows:
        w = self._weights
        rows = w["embeddings.word_embeddings.weight"][tokens]
        rows = rows + w["embeddings.position_embeddings.weight"][: len(tokens)]
        rows = rows + w["embeddings.token_type_embeddings.weight"][0]
        rows = self._norm(rows, "embeddings.LayerNorm")
        for layer in range(self._layers):
            rows = self._layer(rows, f"encoder.layer.{layer}.")
        return rows

    def _layer(self, rows: Rows, at: str) -> Rows:
        heard = self._dense(
            self._attend(rows, at + "attention.self."), at + "attention.output.dense"
        )
        rows = self._norm(rows + heard, at + "attention.output.LayerNorm")
        inner = _gelu(self._dense(rows, at + "intermediate.dense"))
        return self._norm(rows + self._dense(inner, at + "output.dense"), at + "output.LayerNorm")

    def _attend(self, rows: Rows, at: str) -> Rows:
        query, key, value = (
            self._split(self._dense(rows, at + n)) for n in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed: Rows = weights / weights.sum(axis=-1, keepdims=True) @ value
        return mixed.transpose(1, 0, 2).reshape(rows.shape)

    def _split(self, rows: Rows) -> Rows:
        """[rows, width] to [heads, rows, width of a head]."""
        return rows.reshape(len(rows), self._heads, -1).transpose(1, 0, 2)

    def _dense(self, rows: Rows, at: str) -> Rows:
        return rows @ self._weights[at + ".weight"].T + self._weights[at + ".bias"]

    def _norm(self, rows: Rows, at: str) -> Rows:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._epsilon)
        return centred / spread * self._weights[at + ".weight"] + self._weights[at + ".bias"]


def _gelu(rows: Rows) -> Rows:
    return rows * 0.5 * (1 + np.vectorize(erf)(rows / sqrt(2)))
