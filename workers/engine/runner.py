"""One llama.cpp context that many sequences share. The only file that calls llama_decode,
llama_memory_* and llama_state_*.

The KV cache is unified: all sequences live in one buffer of cells, and one cell may belong to many.
A decode that finds no cells is answered False, which asks the scheduler to make room.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, assert_never

import llama_cpp
import numpy as np

from shared import cache_types
from shared.cache_types import CacheType, FlashAttention
from shared.requests import Sampling
from workers.engine.adapters import AdapterSet
from workers.engine.batch import Batch, EmbeddedBatch
from workers.engine.plan import (
    Bury,
    Bytes,
    Chunk,
    Copy,
    Cut,
    Edit,
    EngineError,
    Load,
    Logits,
    Plan,
    Save,
    Saved,
)
from workers.engine.sampling import LlamaSampler
from workers.engine.weights import BadModel, Weights, open_weights

NO_CELLS = 1
MOST_SEQUENCE_IDS = 256  # llama.cpp's own limit
IDLE_IDS = 32  # ids beyond the slots, for cached prefixes
DEFAULT_CELLS = 16_384
CPU_IDLE_CELLS = 4096  # a step on the CPU looks at every cell in use: a third slower with so many
CPU_NEW_CELLS = 1024  # so those that nobody came back to yet have less
ATTENTION_TILE = 64  # rows; flash attention on the CPU goes row by row below that
GGML_TYPE_BF16 = 30  # the bindings do not name it
CACHE_TYPES: dict[CacheType, int] = {
    "f16": llama_cpp.GGML_TYPE_F16,
    "bf16": GGML_TYPE_BF16,
    "q8_0": llama_cpp.GGML_TYPE_Q8_0,
    "q4_0": llama_cpp.GGML_TYPE_Q4_0,
}
FLASH_ATTENTION: dict[FlashAttention, int] = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


class LlamaRunner:
    """plan.Runner on llama.cpp. `vocab` and `model` (a llama_cpp pointer) are for the text side."""

    def __init__(
        self,
        weights: Weights,
        context: Any,
        *,
        slots: int,
        longest: int,
        exact: bool = False,
        tiled: bool = False,
    ) -> None:
        self.weights = weights
        self.vocab = weights.vocab
        self.model = weights.pointer
        self.slots = slots
        self.sequence_ids: int = llama_cpp.llama_n_seq_max(context)
        self.cells: int = llama_cpp.llama_n_ctx(context)
        self.idle_cells = self.cells if weights.offloaded else min(self.cells, CPU_IDLE_CELLS)
        self.new_cells = self.cells if weights.offloaded else min(self.cells, CPU_NEW_CELLS)
        self.context_length = min(longest, self.cells)
        self.batch_rows: int = llama_cpp.llama_n_batch(context)
        self.n_vocab = weights.vocab.n_vocab
        self.width: int = llama_cpp.llama_model_n_embd_inp(weights.pointer)
        self.can_cut = weights.can_cut
        self.exact = exact
        self.tile = ATTENTION_TILE if tiled else 1
        self.ends = np.array(sorted(weights.vocab.eog), np.int64)
        self.piece = weights.vocab.piece
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._batch = Batch(self.batch_rows)
        self._row = ctypes.c_float * self.n_vocab
        self._adapters: AdapterSet = ()

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, *, gpu_layers: int = -1, **options: Any
    ) -> Iterator[LlamaRunner]:
        """Load a GGUF and open a context on it; `options` as for `share`. Raises BadModel."""
        with ExitStack() as stack:
            weights = stack.enter_context(open_weights(path, gpu_layers=gpu_layers))
            yield stack.enter_context(cls.share(weights, **options))

    @classmethod
    @contextmanager
    def share(
        cls,
        weights: Weights,
        *,
        slots: int = 16,
        cells: int = 0,
        context: int = 0,
        threads: int = 0,
        batch_rows: int = 512,
        cache_type_k: CacheType = "f16",
        cache_type_v: CacheType = "f16",
        flash_attention: FlashAttention = "auto",
        exact: bool = False,
    ) -> Iterator[LlamaRunner]:
        """A context on loaded weights. 0 means: `context` what the model was trained for, `cells`
        by context and slots, `threads` one a core. `exact`: on a CPU, with flash attention, numbers
        do not depend on what else is in the batch. Raises BadModel if it cannot generate, for
        cells that cannot be as they are wanted, or the memory for them cannot be had."""
        if not weights.generates:
            raise BadModel(f"{weights.path} is not a model that generates text")
        if why := cache_types.fault(cache_type_v, flash_attention):
            raise BadModel(f"flash_attention='off' cannot be: {why}")
        longest = context or weights.trained_context
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = cells or max(longest, min(longest * slots, DEFAULT_CELLS))
        params.n_batch = params.n_ubatch = max(batch_rows, slots)
        params.n_seq_max = _sequence_ids(weights, slots)
        params.n_threads = params.n_threads_batch = threads or usable_cores()
        params.kv_unified = True
        params.type_k, params.type_v = CACHE_TYPES[cache_type_k], CACHE_TYPES[cache_type_v]
        params.flash_attn_type = FLASH_ATTENTION[flash_attention]
        on_gpu = llama_cpp.llama_supports_gpu_offload()
        if exact := exact and flash_attention != "off" and not on_gpu:
            _make_exact(params)
        pointer = llama_cpp.llama_init_from_model(weights.pointer, params)
        if pointer is None:
            stored = f"{cache_type_k} keys and {cache_type_v} values"
            raise BadModel(
                f"{weights.path}: llama.cpp cannot have {params.n_ctx} cells with {stored}; set "
                "fewer or other ones, its own words are in the log"
            )
        try:
            tiled = flash_attention != "off" and not weights.offloaded and _all_f16(params)
            yield cls(weights, pointer, slots=slots, longest=longest, exact=exact, tiled=tiled)
        finally:
            llama_cpp.llama_free(pointer)

    def decode(self, plan: Plan) -> bool:
        """Apply the edits, compute the chunks; False: no cells. Raises EngineError."""
        for edit in plan.edits:
            self._edit(edit)
        if plan.chunks:
            self._adapt(plan.adapters)
        text = [chunk for chunk in plan.chunks if chunk.embedded is None]
        media = [chunk for chunk in plan.chunks if chunk.embedded is not None]
        done: list[Chunk] = []
        for whole in (False, True):  # before the tokens: the logits kept are the last decode's
            part = [c for c in media if c.embedded is not None and c.embedded.whole == whole]
            if part and not self._decode_embedded(part, whole=whole):
                return self._take_back(done)
            done += part
        if text and not self._compute(self._batch.fill(text)):
            return self._take_back(done)
        return True

    def _adapt(self, wanted: AdapterSet) -> None:
        """Compute with these adapters, and no others, from now on."""
        if wanted == self._adapters:
            return
        count = len(wanted)
        loaded = (self.weights.lora[name] for name, _ in wanted)
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*loaded)
        scales = (ctypes.c_float * count)(*(scale for _, scale in wanted))
        if llama_cpp.llama_set_adapters_lora(self._context, pointers, count, scales):
            raise EngineError(f"llama.cpp refuses the adapters {wanted}")
        self._adapters = wanted

    def _decode_embedded(self, chunks: list[Chunk], *, whole: bool) -> bool:
        batch = EmbeddedBatch(chunks)
        if not whole:
            return self._compute(batch.native)
        llama_cpp.llama_set_causal_attn(self._context, False)
        try:
            return self._compute(batch.native)
        finally:
            llama_cpp.llama_set_causal_attn(self._context, True)

    def _compute(self, batch: Any) -> bool:
        status = llama_cpp.llama_decode(self._context, batch)
        if status not in (0, NO_CELLS):
            raise EngineError(f"llama_decode answered {status}")
        return bool(status == 0)

    def _take_back(self, chunks: list[Chunk]) -> bool:
        """There were no cells for the rest of a plan: these were not computed either."""
        for chunk in chunks:
            first = chunk.start - chunk.lag
            assert chunk.embedded is not None
            inside = first != chunk.embedded.positions[0, 0]  # where it would take all the run
            if inside or not llama_cpp.llama_memory_seq_rm(self._memory, chunk.slot, first, -1):
                raise EngineError("an image cannot be taken back out of the memory")
        return False

    def logits(self, row: int) -> Logits:
        """A writable view of a row's logits, valid until the next decode."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise EngineError(f"row {row} has no logits")
        address = ctypes.addressof(pointer.contents)
        return np.frombuffer(memoryview(self._row.from_address(address)), np.float32)

    def sampler(self, sampling: Sampling, *, seed: int) -> LlamaSampler:
        """A sampler of this context's logits; its user closes it."""
        window = self.context_length
        return LlamaSampler(sampling, seed=seed, context=self._context, window=window)

    def _edit(self, edit: Edit) -> None:
        match edit:
            case Copy(source, target, length, lag):
                last = length - lag if self.can_cut else -1
                llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, last)
            case Cut(slot, keep, lag):
                llama_cpp.llama_memory_seq_rm(self._memory, slot, keep - lag, -1)
            case Bury(slot, keep, grave, lag):
                llama_cpp.llama_memory_seq_cp(self._memory, slot, grave, keep - lag, -1)
                llama_cpp.llama_memory_seq_rm(self._memory, slot, keep - lag, -1)
            case Save(slot, into):
                self._save(slot, into)
            case Load(saved, slot):
                self._load(saved, slot)
            case _:
                assert_never(edit)

    def _save(self, slot: int, into: Saved) -> None:
        size = llama_cpp.llama_state_seq_get_size(self._context, slot)
        if (data := into.allot(size)) is None:
            return
        done = llama_cpp.llama_state_seq_get_data(self._context, _address(data), size, slot)
        if done != size:
            raise EngineError(f"of slot {slot} {done} bytes were saved, not {size}")

    def _load(self, saved: Saved, slot: int) -> None:
        size = len(saved.data)
        done = llama_cpp.llama_state_seq_set_data(self._context, _address(saved.data), size, slot)
        if done != size:
            raise EngineError(f"into slot {slot} {done} bytes were loaded, not {size}")


def _address(data: Bytes) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_exact(params: Any) -> None:
    """The CPU's flash attention has three ways to add up, chosen by how many rows a batch has.
    Only f16 keys with f16 values have them all; any other pair is left the one that goes row by
    row, and bf16 values take no more room."""
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    if _all_f16(params):
        params.type_v = GGML_TYPE_BF16


def _all_f16(params: Any) -> bool:
    """Whether keys and values are: of the types that can be asked for, only these go by tiles."""
    return bool(params.type_k == params.type_v == llama_cpp.GGML_TYPE_F16)


def _sequence_ids(weights: Weights, slots: int) -> int:
    """Ids cost nothing where only cells take memory; a recurrent state takes it for each id."""
    return slots if weights.recurrent else min(MOST_SEQUENCE_IDS, slots + IDLE_IDS)
