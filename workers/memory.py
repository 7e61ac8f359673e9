"""How much memory a model will take, from its header alone, and how much there is to give.

What a model takes: its weights; the KV cells, exactly as the runner will ask for them; the buffers
of one step, estimated from above, since llama.cpp alone knows its graphs.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import msgspec
from msgspec.structs import replace

from shared.cache_types import CacheType
from shared.settings import Settings
from workers.engine.runner import DEFAULT_CELLS, IDLE_IDS, MOST_SEQUENCE_IDS
from workers.engine.vectors import BATCH_ROWS, MOST_SEQUENCES
from workers.models.gguf import ModelFacts

LEAST_BATCH_ROWS = 512
PROJECTOR_BUFFERS_BYTES = 512 << 20  # a large image, with what was encoded before
RESERVE_SHARE = 0.1
RESERVE_MOST_BYTES = 2 << 30
BYTES: dict[CacheType, float] = {"f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
FLOAT = 4
CELLS_STEP = 256  # llama.cpp rounds the number of cells up to it
DEVICE_GPU = 1  # ggml_backend_dev_type; 0 is the CPU


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes, in bytes. `vectors` only once embeddings are asked of a model that
    generates; one that gives nothing else has it in `cells` and `buffers`. The host cache counts to
    the cells where both are in RAM."""

    weights: int
    cells: int
    buffers: int
    vectors: int = 0

    @property
    def total(self) -> int:
        """Without `vectors`."""
        return self.weights + self.cells + self.buffers


def need(facts: ModelFacts, settings: Settings, *, size_bytes: int = 0) -> Need:
    """Of a model with these settings; `size_bytes` where the weights are in more than one file."""
    vectors = _vectors(facts)
    weights = size_bytes or facts.size_bytes
    if not _generates(facts):
        return Need(weights=weights, cells=vectors[0], buffers=vectors[1])
    rows = batch_rows(settings)
    cells = _rounded(cell_count(facts, settings))
    flash = settings.flash_attention != "off"
    keys, values = BYTES[settings.cache_type_k], BYTES[settings.cache_type_v]
    ids = min(MOST_SEQUENCE_IDS, settings.slots + IDLE_IDS)
    host = 0 if uses_gpu(settings) else settings.host_cache_mib << 20
    return Need(
        weights=weights,
        cells=_cells_bytes(facts, cells, keys, values) + _state_bytes(facts, settings.slots) + host,
        buffers=_buffers(facts, rows=rows, cells=cells, flash=flash)
        + ids * facts.vocab_size * FLOAT,
        vectors=sum(vectors),
    )


def with_projector(need: Need, size_bytes: int) -> Need:
    """The same beside a projector of so many bytes."""
    weights, buffers = need.weights + size_bytes, need.buffers + PROJECTOR_BUFFERS_BYTES
    return replace(need, weights=weights, buffers=buffers)


def with_draft(need: Need, draft: Need) -> Need:
    """The same beside a small model that guesses."""
    weights, cells = need.weights + draft.weights, need.cells + draft.cells
    return replace(need, weights=weights, cells=cells, buffers=need.buffers + draft.buffers)


def with_adapters(need: Need, size_bytes: int) -> Need:
    """The same beside adapters of so many bytes."""
    return replace(need, weights=need.weights + size_bytes)


def batch_rows(settings: Settings) -> int:
    """Rows of one step, as the runner is asked for them."""
    return max(LEAST_BATCH_ROWS, settings.prefill_budget + settings.slots)


def cell_count(facts: ModelFacts, settings: Settings) -> int:
    """As workers/engine/runner.py decides it."""
    longest = settings.context or facts.context_length or DEFAULT_CELLS
    return settings.cells or max(longest, min(longest * settings.slots, DEFAULT_CELLS))


def _generates(facts: ModelFacts) -> bool:
    return facts.causal and facts.pooling in ("", "none")


def _vectors(facts: ModelFacts) -> tuple[int, int]:
    """Cells and buffers of a context for embeddings (workers/engine/vectors.py)."""
    longest = facts.context_length or BATCH_ROWS
    rows = min(BATCH_ROWS, longest) if _generates(facts) else max(BATCH_ROWS, longest)
    cells = _cells_bytes(facts, rows, BYTES["f16"], BYTES["f16"]) if facts.causal else 0
    ids = MOST_SEQUENCES * (facts.vocab_size if facts.causal else facts.embedding_length)
    return cells, _buffers(facts, rows=rows, cells=rows) + ids * FLOAT


def _cells_bytes(facts: ModelFacts, cells: int, key_bytes: float, value_bytes: float) -> int:
    """Keys and values of every layer; bytes are those of one number."""
    every = (facts.head_count_kv or facts.head_count,) * facts.block_count
    heads = sum(facts.kv_heads[: facts.block_count] or every)
    head = facts.embedding_length // max(1, facts.head_count)
    width = (facts.key_length or head) * key_bytes + (facts.value_length or head) * value_bytes
    return int(heads * width * cells)


def _state_bytes(facts: ModelFacts, slots: int) -> int:
    layers = facts.kv_heads.count(0) if facts.kv_heads else facts.block_count
    return facts.state_floats * layers * slots * FLOAT


def _buffers(facts: ModelFacts, *, rows: int, cells: int, flash: bool = True) -> int:
    """The widest moment of a step: either its logits or what is inside a layer. The mask holds two
    bytes a cell; without flash attention four, and every head has as many."""
    width, inner = facts.embedding_length, facts.feed_forward_length
    logits = facts.vocab_size + 2 * width if facts.causal else 0
    layer = 6 * width + 3 * inner + (cells // 2 if flash else cells * (1 + facts.head_count))
    return rows * max(logits, layer) * FLOAT


def _rounded(cells: int) -> int:
    return -(-cells // CELLS_STEP) * CELLS_STEP


# -- what there is -------------------------------------------------------------------------------


class Free(msgspec.Struct, frozen=True):
    """Bytes that could be had now, of so many."""

    free: int
    total: int

    @property
    def to_give(self) -> int:
        """Less the reserve that models leave to others."""
        return max(0, self.free - min(RESERVE_MOST_BYTES, int(self.total * RESERVE_SHARE)))


def measure(*, gpu: bool) -> Free:
    """The GPUs' memory together, or this machine's (or container's)."""
    return (_gpu() if gpu else None) or _ram()


def uses_gpu(settings: Settings) -> bool:
    """Whether this worker's models live in a GPU's memory."""
    return bool(llama_cpp.llama_supports_gpu_offload()) and settings.gpu_layers != 0


def resident_bytes() -> int:
    """What this process has in RAM now; 0 where nobody says."""
    return _pairs(Path("/proc/self/status")).get("VmRSS", 0)


def _ram() -> Free:
    told = _pairs(Path("/proc/meminfo"))
    found = Free(told.get("MemAvailable", 0), told.get("MemTotal", 0))
    limit = _container()
    return min(found, limit, key=lambda one: one.free) if limit else found


def _container(root: Path = Path("/sys/fs/cgroup")) -> Free | None:
    """What a control group's limit leaves; None without one. File cache can be had back."""
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        cache = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return Free(max(0, limit - used + int(cache.get("inactive_file", 0))), limit)


def _pairs(path: Path) -> dict[str, int]:
    """`Name: 12 kB` lines as bytes; empty where there is no such file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[2:] == ["kB"]}


def _gpu() -> Free | None:
    """All GPUs that llama.cpp sees; None if it sees none."""
    library: Any = llama_cpp.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    library.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    library.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.ggml_backend_dev_memory.restype = None
    devices = map(library.ggml_backend_dev_get, range(library.ggml_backend_dev_count()))
    gpus = [one for one in devices if library.ggml_backend_dev_type(one) == DEVICE_GPU]
    found = [_device_memory(library, one) for one in gpus]
    if not found:
        return None
    return Free(sum(one.free for one in found), sum(one.total for one in found))


def _device_memory(library: Any, device: int) -> Free:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    return Free(free.value, total.value)
