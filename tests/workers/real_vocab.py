"""The default model's vocabulary, loaded without weights (0.1 s), once a run; skips without it."""

from __future__ import annotations

from functools import cache

import llama_cpp
import pytest

from shared import settings
from workers.models.vocab import Vocab

MODEL = settings.read().home / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@cache
def real_vocab() -> Vocab:
    """The vocabulary of SmolLM2; never freed, the process is a test run."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there")
    llama_cpp.llama_backend_init()
    parameters = llama_cpp.llama_model_default_params()
    parameters.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(MODEL).encode(), parameters)
    assert model is not None
    return Vocab(model)
