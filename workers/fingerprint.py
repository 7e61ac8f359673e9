"""What stands behind a seed: two answers with one fingerprint were computed alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata

import msgspec

from shared.settings import Settings
from workers.models.adapters import AdapterFile
from workers.models.gguf import ModelFacts


def of(facts: ModelFacts, settings: Settings, adapters: Sequence[AdapterFile] = ()) -> str:
    """`fp_` and ten hex digits of the engine, the model's files and what changes its numbers;
    `settings` have the model's configuration laid over them."""
    told = {
        "engine": metadata.version("llama-cpp-python"),
        "facts": msgspec.structs.replace(facts, path=""),
        "cache_types": (settings.cache_type_k, settings.cache_type_v),
        "context": settings.context,
        "exact": settings.exact,
        "flash_attention": settings.flash_attention,
        "gpu_layers": settings.gpu_layers,
        "adapters": [(one.name, one.digest) for one in adapters],
    }
    return f"fp_{hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:10]}"
