"""What stands behind a seed: two answers with one fingerprint were computed alike."""

from __future__ import annotations

import hashlib
from importlib import metadata

import msgspec

from shared.settings import Settings
from workers.models.gguf import ModelFacts


def of(facts: ModelFacts, settings: Settings) -> str:
    """`fp_` and ten hex digits of the engine, the model's file and what changes its numbers;
    `settings` have the model's configuration laid over them."""
    told = {
        "engine": metadata.version("llama-cpp-python"),
        "facts": msgspec.structs.replace(facts, path=""),
        "cache_types": (settings.cache_type_k, settings.cache_type_v),
        "context": settings.context,
        "exact": settings.exact,
        "flash_attention": settings.flash_attention,
        "gpu_layers": settings.gpu_layers,
    }
    return f"fp_{hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:10]}"
