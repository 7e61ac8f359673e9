"""A loaded model file: shared by its contexts, and by whoever tokenises. Opened and freed here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import structlog

from workers.models.vocab import Vocab

log = structlog.get_logger()

ERROR = 4  # ggml's log level
NO_POOLING = str(llama_cpp.LLAMA_POOLING_TYPE_NONE)
OnProgress = Callable[[float], bool]


class BadModel(ValueError):
    """A file that llama.cpp cannot load or that cannot generate; the message says which and why."""


class Weights:
    """A llama_model and what decides how its memory may be treated. `pointer` is llama.cpp's, as
    are the values of `lora`, its adapters by name."""

    def __init__(self, pointer: Any, path: Path, *, offloaded: bool = False) -> None:
        self.pointer = pointer
        self.path = path
        self.offloaded = offloaded
        self.vocab = Vocab(pointer)
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(pointer)
        self.recurrent = bool(
            llama_cpp.llama_model_is_recurrent(pointer) or llama_cpp.llama_model_is_hybrid(pointer)
        )
        self.window: int = llama_cpp.llama_model_n_swa(pointer)
        self.lora: dict[str, Any] = {}

    def add_lora(self, name: str, path: Path) -> None:
        """Load an adapter; contexts that are opened afterwards may apply it. Raises BadModel."""
        if not self.generates:
            raise BadModel(f"the adapter {name!r} is for nothing: {self.path.name} only embeds")
        pointer = llama_cpp.llama_adapter_lora_init(self.pointer, str(path).encode())
        if not pointer:
            raise BadModel(
                f"the adapter {name!r} ({path}) does not fit {self.path.name}; llama.cpp says why "
                "in the log"
            )
        self.lora[name] = pointer  # freed with the model

    @property
    def can_cut(self) -> bool:
        """Whether a sequence's memory may be shortened and shared in part."""
        return not self.recurrent and not self.window

    @property
    def generates(self) -> bool:
        """Whether it is a decoder that can say one token after another.

        To the library BERT is a decoder too: that its tokens see those behind them, or that its
        file was made for pooled vectors, stands only in the header."""
        architecture = _header(self.pointer, "general.architecture")
        return (
            llama_cpp.llama_model_has_decoder(self.pointer)
            and not llama_cpp.llama_model_has_encoder(self.pointer)
            and not llama_cpp.llama_model_is_diffusion(self.pointer)
            and _header(self.pointer, f"{architecture}.attention.causal") != "false"
            and _header(self.pointer, f"{architecture}.pooling_type") in ("", NO_POOLING)
        )


@contextmanager
def open_weights(
    path: str | Path, *, gpu_layers: int = -1, on_progress: OnProgress | None = None
) -> Iterator[Weights]:
    """Load a GGUF; `gpu_layers` -1 = all that fit a GPU, if there is one. Raises BadModel.

    `on_progress` hears how much is done, 0 to 1, on this thread; when it answers False the loading
    stops, as BadModel.
    """
    path = Path(path)
    if not path.is_file():
        raise BadModel(f"there is no model file {path}")
    llama_cpp.llama_log_set(hear_library, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = gpu_layers
    params.progress_callback = hears = _progress(on_progress)
    pointer = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    del hears  # until here the library called it
    if pointer is None:
        raise BadModel(f"llama.cpp cannot load {path}; its own words are in the log")
    try:
        on_gpu = bool(llama_cpp.llama_supports_gpu_offload()) and gpu_layers != 0
        yield Weights(pointer, path, offloaded=on_gpu)
    finally:
        llama_cpp.llama_model_free(pointer)


def _header(pointer: Any, key: str) -> str:
    """A short value of the file's header as text; empty when it has none."""
    buffer = ctypes.create_string_buffer(128)
    length = llama_cpp.llama_model_meta_val_str(pointer, key.encode(), buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length > 0 else ""


def _progress(heard: OnProgress | None) -> Any:
    return llama_cpp.llama_progress_callback(lambda done, _: heard is None or heard(done))


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def hear_library(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """llama.cpp's errors, into the log."""
    if level == ERROR:
        log.error("llama.said", text=text.decode("utf-8", "replace").strip())
