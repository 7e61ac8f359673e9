"""A LoRA adapter's file: whether a model can take it, as far as its header says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from workers.models import gguf
from workers.models.gguf import BadModelFile, ModelFacts

KIND = {"general.type": "adapter", "adapter.type": "lora"}
ALPHA = "adapter.lora.alpha"
INVOKED = "adapter.alora.invocation_tokens"


class AdapterFile(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter of a model, under the name that requests give it; `digest` is `sha256:…`."""

    name: str
    path: Path
    size_bytes: int
    digest: str


def read(name: str, path: Path, model: ModelFacts) -> AdapterFile:
    """The adapter at `path` for this model. Reads all of it. BadModelFile, naming it; OSError."""
    try:
        size, pairs, _ = gguf.header(path)
    except BadModelFile as error:
        raise BadModelFile(f"the adapter {name!r} ({path}): {error}") from error
    if why := _misfit(pairs, model):
        raise BadModelFile(f"the adapter {name!r} ({path}) {why}")
    with path.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return AdapterFile(name=name, path=path, size_bytes=size, digest=digest)


def _misfit(pairs: dict[str, object], model: ModelFacts) -> str:
    """What is wrong with its header; llama.cpp looks at the shapes, but trusts types."""
    if any(pairs.get(key) != value for key, value in KIND.items()):
        return "is no LoRA adapter"
    if not isinstance(pairs.get(ALPHA, 0.0), float):
        return f"has no number as {ALPHA}"
    if INVOKED in pairs:
        return "is an activated one (aLoRA), which is not supported"
    made_for = pairs.get("general.architecture")
    if made_for != model.architecture:
        return f"is made for {made_for}, and the model is {model.architecture}"
    return ""
