"""A llama_batch whose arrays are numpy's: a chunk is a few slice assignments, no loop."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from workers.engine.plan import Chunk


class Batch:
    """Room for `rows` rows; each row belongs to one slot."""

    def __init__(self, rows: int) -> None:
        self._token = np.zeros(rows, np.int32)
        self._pos = np.zeros(rows, np.int32)
        self._slot = np.zeros(rows, np.int32)
        self._slot_count = np.ones(rows, np.int32)
        self._output = np.zeros(rows, np.int8)
        self._counting = np.arange(rows, dtype=np.int32)
        addresses = self._slot.ctypes.data + 4 * np.arange(rows, dtype=np.uintp)
        self._slot_pointers = addresses.astype(np.uintp)
        self.native = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._pos, ctypes.c_int32),
            n_seq_id=_pointer(self._slot_count, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._output, ctypes.c_int8),
        )

    def fill(self, chunks: Sequence[Chunk]) -> Any:
        """The native batch of these chunks, row after row."""
        at = 0
        for chunk in chunks:
            end = at + len(chunk.tokens)
            self._token[at:end] = chunk.tokens
            self._pos[at:end] = self._counting[: end - at]
            self._pos[at:end] += chunk.start - chunk.lag
            self._slot[at:end] = chunk.slot
            self._output[at:end] = 0
            self._output[end - chunk.outputs : end] = 1
            at = end
        self.native.n_tokens = at
        return self.native


class EmbeddedBatch:
    """A llama_batch of chunks of embeddings: made anew each time, images being few and large."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        parts = [chunk.embedded for chunk in chunks if chunk.embedded is not None]
        rows = sum(len(part.numbers) for part in parts)
        self._numbers = np.concatenate([part.numbers for part in parts], dtype=np.float32)
        positions = np.concatenate([part.positions for part in parts], axis=1)
        self._pos = np.ascontiguousarray(positions, np.int32)
        counts = [len(part.numbers) for part in parts]
        self._slot = np.repeat(np.array([chunk.slot for chunk in chunks], np.int32), counts)
        self._slot_count = np.ones(rows, np.int32)
        addresses = self._slot.ctypes.data + 4 * np.arange(rows, dtype=np.uintp)
        self._slot_pointers = addresses.astype(np.uintp)
        self._output = np.zeros(rows, np.int8)
        self.native = llama_cpp.llama_batch(
            n_tokens=rows,
            token=None,
            embd=_pointer(self._numbers, ctypes.c_float),
            pos=_pointer(self._pos, ctypes.c_int32),
            n_seq_id=_pointer(self._slot_count, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._output, ctypes.c_int8),
        )


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))
