"""A context that turns token sequences into one vector (or score) each. The C side of embeddings.

Sequences of many callers share one decode; nothing is kept between decodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import llama_cpp
import numpy as np
import numpy.typing as npt

from workers.engine.batch import Batch
from workers.engine.plan import Chunk, EngineError
from workers.engine.runner import usable_cores
from workers.engine.weights import BadModel, Weights

Pooling = Literal["", "mean", "cls", "last", "rank"]
Vector = npt.NDArray[np.float32]

MOST_SEQUENCES = 64
BATCH_ROWS = 2048
POOLING: dict[Pooling, int] = {
    "": llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED,
    "mean": llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama_cpp.LLAMA_POOLING_TYPE_CLS,
    "last": llama_cpp.LLAMA_POOLING_TYPE_LAST,
    "rank": llama_cpp.LLAMA_POOLING_TYPE_RANK,
}


class VectorContext:
    """`width` numbers for each sequence: the embedding, or one score where the model ranks.

    `longest` is the longest sequence, `rows` the most tokens of one decode.
    """

    def __init__(self, weights: Weights, context: Any, *, rows: int, longest: int) -> None:
        self.rows = rows
        self.sequences = MOST_SEQUENCES
        self.longest = longest
        kind = llama_cpp.llama_pooling_type(context)
        self.ranks = kind == llama_cpp.LLAMA_POOLING_TYPE_RANK
        self.width: int = 1 if self.ranks else llama_cpp.llama_model_n_embd(weights.pointer)
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = Batch(rows)

    @classmethod
    @contextmanager
    def share(
        cls, weights: Weights, *, pooling: Pooling = "", context: int = 0, threads: int = 0
    ) -> Iterator[VectorContext]:
        """A context on loaded weights; `pooling` empty: what the model says, else the last token
        of a model that generates. Raises BadModel."""
        longest = min(context or weights.trained_context, weights.trained_context)
        rows = max(BATCH_ROWS, longest) if not weights.generates else min(BATCH_ROWS, longest)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = rows
        params.n_seq_max = MOST_SEQUENCES
        params.n_threads = params.n_threads_batch = threads or usable_cores()
        params.embeddings = True
        params.kv_unified = True
        params.pooling_type = POOLING[pooling or ("last" if weights.generates else "")]
        pointer = llama_cpp.llama_init_from_model(weights.pointer, params)
        if pointer is None:
            raise BadModel(f"{weights.path}: no memory to compute embeddings")
        try:
            yield cls(weights, pointer, rows=rows, longest=min(longest, rows))
        finally:
            llama_cpp.llama_free(pointer)

    def encode(self, sequences: Sequence[tuple[int, ...]]) -> list[Vector]:
        """A vector [width] each, not normalised. At most `sequences` of them and `rows` tokens
        together. Raises EngineError."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        chunks = [Chunk(slot, 0, tokens, len(tokens)) for slot, tokens in enumerate(sequences)]
        status = llama_cpp.llama_decode(self._context, self._batch.fill(chunks))
        if status:
            raise EngineError(f"llama_decode answered {status}")
        return [self._vector(slot) for slot in range(len(sequences))]

    def _vector(self, slot: int) -> Vector:
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, slot)
        if not pointer:
            raise EngineError("the model gives no pooled embedding")
        return np.ctypeslib.as_array(pointer, (self.width,)).copy()
