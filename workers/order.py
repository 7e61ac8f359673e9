"""How a model is to be loaded: its files, its settings, what it should take."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from shared.model_config import ModelConfig, applied
from shared.settings import Settings
from workers import memory
from workers.models.adapters import AdapterFile
from workers.models.gguf import ModelFacts
from workers.models.projectors import ProjectorFacts


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to load and how: `facts` of the file at `path`, `settings` with the model's
    configuration laid over them, the memory it should take, its `projector` if it has one, the
    `adapters` that requests may name, the small model at `draft` that guesses for it.
    `announce`: the catalog learns of it from here, not from a store."""

    ref: str
    path: Path
    facts: ModelFacts
    config: ModelConfig
    settings: Settings
    need: memory.Need
    projector: ProjectorFacts | None = None
    adapters: tuple[AdapterFile, ...] = ()
    draft: Path | None = None
    announce: bool = False


def order_of(
    ref: str,
    path: Path,
    facts: ModelFacts,
    config: ModelConfig,
    settings: Settings,
    *,
    packaged_context: int = 0,
    size_bytes: int = 0,
    projector: ProjectorFacts | None = None,
    announce: bool = False,
) -> Order:
    """Of what is known. A packaged context counts where neither the model's configuration nor the
    worker says another; `size_bytes` where the weights are in several files."""
    mine = applied(config, settings)
    if not mine.context and config.context_size is None and packaged_context > 0:
        mine = replace(mine, context=packaged_context)
    need = memory.need(facts, mine, size_bytes=size_bytes)
    if projector is not None:
        need = memory.with_projector(need, projector.size_bytes)
    return Order(
        ref=ref,
        path=path,
        facts=facts,
        config=config,
        settings=mine,
        need=need,
        projector=projector,
        announce=announce,
    )
