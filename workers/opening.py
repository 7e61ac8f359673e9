"""Opens a model's files: weights, memory, and what stands beside it. All of it blocks."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import msgspec

from shared.settings import Settings
from workers import memory
from workers.engine.draft_model import DraftModel
from workers.engine.runner import LlamaRunner, usable_cores
from workers.engine.weights import BadModel, OnProgress, Weights, open_weights
from workers.media.encoder import Encoder
from workers.models.projectors import ProjectorFacts
from workers.order import Order


class Model(msgspec.Struct, frozen=True):
    """What was opened: no runner where it generates nothing, no encoder without a projector."""

    weights: Weights
    runner: LlamaRunner | None = None
    encoder: Encoder | None = None
    drafter: DraftModel | None = None


def open_model(order: Order, opened: ExitStack, on_progress: OnProgress) -> Model:
    """Blocks. Everything is freed with `opened`. Raises BadModel."""
    settings = order.settings
    weights = opened.enter_context(
        open_weights(order.path, gpu_layers=settings.gpu_layers, on_progress=on_progress)
    )
    for adapter in order.adapters:
        weights.add_lora(adapter.name, adapter.path)
    if not weights.generates:
        return Model(weights)
    runner = opened.enter_context(runner_of(weights, settings))
    drafter = None if order.draft is None else _drafter(order, order.draft, weights, opened)
    encoder = None if order.projector is None else _encoder(order, order.projector, weights, opened)
    return Model(weights, runner, encoder, drafter)


def _encoder(order: Order, facts: ProjectorFacts, weights: Weights, opened: ExitStack) -> Encoder:
    # Not at the head: a libllama that was put in place of the bindings' own has no mtmd beside it.
    from workers.media.projector import open_projector

    threads = order.settings.image_threads or max(1, usable_cores() // 2)
    projector = opened.enter_context(open_projector(facts, weights, threads=threads))
    encoder = Encoder(projector)
    opened.callback(encoder.close)
    return encoder


def _drafter(order: Order, path: Path, weights: Weights, opened: ExitStack) -> DraftModel:
    """The small model and its own memory. Raises BadModel where it cannot guess for this one."""
    small = opened.enter_context(open_weights(path, gpu_layers=order.settings.gpu_layers))
    if not small.can_cut:
        raise BadModel(f"the draft model {path} keeps a memory that cannot be cut")
    if small.vocab.pieces != weights.vocab.pieces:
        raise BadModel(f"the draft model {path} has another vocabulary than {order.ref}")
    return DraftModel(opened.enter_context(runner_of(small, order.settings)))


def runner_of(weights: Weights, settings: Settings) -> AbstractContextManager[LlamaRunner]:
    """The memory that a worker with these settings has on loaded weights. Raises BadModel."""
    return LlamaRunner.share(
        weights,
        slots=settings.slots,
        cells=settings.cells,
        context=settings.context,
        threads=settings.threads,
        exact=settings.exact,
        batch_rows=memory.batch_rows(settings),
        cache_type_k=settings.cache_type_k,
        cache_type_v=settings.cache_type_v,
        flash_attention=settings.flash_attention,
    )
