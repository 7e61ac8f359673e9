"""Loads one model: files, weights, engine, text side, catalog entry. All that blocks is done in
threads, so that others go on speaking; whoever asked for it has no part in it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

import llama_cpp
import structlog
from redis.asyncio import Redis

from shared import presence
from shared.presence import WorkerCard
from shared.queue import Queue
from shared.settings import Settings
from workers import fingerprint, local, memory
from workers.embedding import Embeddings
from workers.engine.doors import EngineDoor, StepReport
from workers.engine.engine import Engine
from workers.engine.speculation import Speculation
from workers.engine.weights import OnProgress
from workers.metrics import WorkerMetrics
from workers.no_engine import NoEngine
from workers.opening import Model, open_model
from workers.order import Order
from workers.prompt.model_text import ModelText
from workers.served import Served, Tenure
from workers.text_side import Text

log = structlog.get_logger()

Put = Callable[[StepReport], None]


class InThread(Protocol):
    """Runs what blocks in a thread of its own: `await in_thread(function, *arguments)`."""

    def __call__(self, act: Callable[..., Any], /, *args: Any) -> Awaitable[Any]: ...


@asynccontextmanager
async def load(
    order: Order,
    tenure: Tenure,
    *,
    queue: Queue,
    metrics: WorkerMetrics,
    in_thread: InThread,
    on_progress: OnProgress,
) -> AsyncIterator[Served]:
    """The model, loaded; freed with the block. Raises BadModel, EngineError."""
    before_bytes = memory.resident_bytes()
    with ExitStack() as opened:
        try:
            model = await in_thread(open_model, order, opened, on_progress)
            served = _serve(order, tenure, queue, metrics, model)
            opened.callback(served.engine.close)
            opened.callback(_close, served.embeddings)
            if order.announce:
                await announce(queue.redis, order, context=served.context)
            served.fingerprint = fingerprint.of(order.facts, order.settings, order.adapters)
            tenure.ready_s = tenure.used_s = time.monotonic()
            _report(order, served, grown_bytes=memory.resident_bytes() - before_bytes)
            yield served
        finally:
            await in_thread(opened.close)


def _serve(
    order: Order,
    tenure: Tenure,
    queue: Queue,
    metrics: WorkerMetrics,
    model: Model,
) -> Served:
    weights, runner, encoder = model.weights, model.runner, model.encoder
    context, slots = weights.trained_context, order.settings.slots
    open_engine: Callable[[Put], EngineDoor] = NoEngine
    if runner is not None:
        context, slots = runner.context_length, runner.slots
        open_engine = partial(_engine, order.settings, model, asyncio.get_running_loop())
    return Served(
        order.ref,
        Text(
            ModelText(weights.vocab, order.facts, media=encoder), context=context, encoder=encoder
        ),
        queue=queue,
        settings=order.settings,
        context=context,
        slots=slots,
        bytes=order.need.total,
        vector_bytes=order.need.vectors,
        metrics=metrics.of(order.ref),
        embeddings=Embeddings(weights, weights.vocab, threads=order.settings.threads),
        generates=weights.generates,
        adapters=tuple(weights.lora),
        tenure=tenure,
        open_engine=open_engine,
    )


def _close(embeddings: Embeddings | None) -> None:
    if embeddings is not None:
        embeddings.close()


def _report(order: Order, served: Served, *, grown_bytes: int) -> None:
    """Foretold and measured: what was not touched yet is not resident, so less is no surprise."""
    log.info(
        "model.loaded",
        model=order.ref,
        seconds=round(served.tenure.load_s, 2),
        context=served.context,
        needed_mib=order.need.total >> 20,
        grown_mib=grown_bytes >> 20,
    )
    if not memory.uses_gpu(order.settings) and grown_bytes > order.need.total:
        log.warning("model.larger_than_foretold", model=order.ref)


def machine(worker: str) -> WorkerCard:
    """This process' card, without its models."""
    return WorkerCard(
        id=worker,
        host=socket.gethostname(),
        pid=os.getpid(),
        device=device(),
        started_ms=time.time_ns() // 1_000_000,
    )


def device() -> str:
    """Where the model runs, as llama.cpp says."""
    if llama_cpp.llama_supports_gpu_offload():
        return "gpu"
    return f"cpu ({platform.machine()})"


def _engine(
    settings: Settings, model: Model, loop: asyncio.AbstractEventLoop, put: Put
) -> EngineDoor:
    assert model.runner is not None
    engine = Engine(
        model.runner,
        deliver=partial(_post, loop, put),
        prefill_budget=settings.prefill_budget,
        prefill_stretch=settings.prefill_stretch,
        prefix_cache=settings.prefix_cache,
        speculation=Speculation(model.drafter, most=settings.draft_max),
    )
    engine.start()
    return engine


def _post(loop: asyncio.AbstractEventLoop, put: Put, report: StepReport) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process is ending
        loop.call_soon_threadsafe(put, report)


async def announce(redis: Redis, order: Order, *, context: int) -> None:
    """Put the model of a plain file into the catalog: from now on it may be asked for."""
    digest = await asyncio.to_thread(local.digest, order.path)
    modified_s = int((await asyncio.to_thread(order.path.stat)).st_mtime)
    sees = order.projector.capabilities if order.projector else ()
    card = local.card(
        order.ref, order.facts, context=context, digest=digest, modified_s=modified_s, sees=sees
    )
    await presence.add_model(redis, card)
