"""Loads the model a worker was given: file, weights, engine, text side, catalog entry."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import llama_cpp
import structlog

from shared import presence
from shared.presence import WorkerCard
from shared.queue import Queue
from shared.requests import Generate, Prompt, Tokenize
from shared.settings import Settings
from workers import local
from workers.embedding import Embeddings
from workers.engine.doors import (
    End,
    EngineDoor,
    Output,
    SequenceRequest,
    StepReport,
    StepStats,
)
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner
from workers.engine.weights import Weights, open_weights
from workers.metrics import ModelMetrics, WorkerMetrics
from workers.models import gguf
from workers.models.gguf import ModelFacts
from workers.prompt.model_text import ModelText
from workers.prompt.plan import Prepared, prepare
from workers.served import Served

log = structlog.get_logger()

NO_LIMIT = 1 << 30
LEAST_BATCH_ROWS = 512

Put = Callable[[StepReport], None]


@asynccontextmanager
async def load(settings: Settings, queue: Queue, metrics: WorkerMetrics) -> AsyncIterator[Served]:
    """The model of `settings.model`, loaded and announced. Raises BadSetting, BadModelFile,
    BadModel for what cannot be served; the engine ends with the block."""
    started_s = time.monotonic()
    ref, path = local.resolve(settings)
    facts = await asyncio.to_thread(gguf.read, path)
    async with AsyncExitStack() as stack:
        weights = await asyncio.to_thread(
            stack.enter_context, open_weights(path, gpu_layers=settings.gpu_layers)
        )
        served = await _serve(settings, queue, metrics.of(ref), ref, facts, weights, stack)
        await _announce(queue, served, facts, path)
        seconds = round(time.monotonic() - started_s, 2)
        log.info("model.loaded", model=ref, seconds=seconds, context=served.context)
        yield served


class Text:
    """The served.TextSide of one loaded model."""

    def __init__(self, model: ModelText, *, context: int) -> None:
        self._model = model
        self._context = context

    def prepare(self, request: Generate, *, enqueued_s: float) -> Prepared:
        """See workers/prompt/plan.py."""
        return prepare(request, self._model, now_s=enqueued_s, context=self._context)

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> tuple[int, ...]:
        """Token ids of a text or a rendered conversation, however long."""
        if isinstance(request.input, Prompt):
            return self._raw_tokens(request, request.input)
        chat = Generate(id=request.id, model=request.model, input=request.input)
        return prepare(chat, self._model, now_s=enqueued_s, context=NO_LIMIT).prompt

    def _raw_tokens(self, request: Tokenize, prompt: Prompt) -> tuple[int, ...]:
        if prompt.tokens is not None:
            return prompt.tokens
        special, parse = request.add_special, request.parse_special
        text = prompt.text or ""
        return self._model.vocab.tokenize(text, add_special=special, parse_special=parse)

    def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        return self._model.vocab.detokenize(tokens).decode("utf-8", "replace")

    def piece(self, token: int) -> bytes:
        """One token's bytes."""
        return self._model.vocab.piece(token)


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


async def _serve(
    settings: Settings,
    queue: Queue,
    metrics: ModelMetrics,
    ref: str,
    facts: ModelFacts,
    weights: Weights,
    stack: AsyncExitStack,
) -> Served:
    embeddings = Embeddings(weights, weights.vocab, threads=settings.threads)
    stack.push_async_callback(asyncio.to_thread, embeddings.close)
    context, slots, open_engine = weights.trained_context, settings.slots, _no_engine
    if weights.generates:
        runner = await asyncio.to_thread(stack.enter_context, _runner(settings, weights))
        context, slots = runner.context_length, runner.slots
        open_engine = partial(_engine, settings, runner, asyncio.get_running_loop())
    served = Served(
        ref,
        Text(ModelText(weights.vocab, facts), context=context),
        queue=queue,
        settings=settings,
        context=context,
        slots=slots,
        bytes=facts.size_bytes,
        metrics=metrics,
        embeddings=embeddings,
        generates=weights.generates,
        open_engine=open_engine,
    )
    stack.push_async_callback(asyncio.to_thread, served.engine.close)
    return served


def _runner(settings: Settings, weights: Weights) -> AbstractContextManager[LlamaRunner]:
    return LlamaRunner.share(
        weights,
        slots=settings.slots,
        cells=settings.cells,
        context=settings.context,
        threads=settings.threads,
        exact=settings.exact,
        batch_rows=max(LEAST_BATCH_ROWS, settings.prefill_budget + settings.slots),
    )


def _engine(
    settings: Settings, runner: LlamaRunner, loop: asyncio.AbstractEventLoop, put: Put
) -> EngineDoor:
    engine = Engine(
        runner,
        deliver=partial(_post, loop, put),
        prefill_budget=settings.prefill_budget,
        prefill_stretch=settings.prefill_stretch,
        prefix_cache=settings.prefix_cache,
    )
    engine.start()
    return engine


class NoEngine:
    """doors.EngineDoor of a model that generates nothing: jobs.py asks it for nothing."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self.stalled_s = 0.0
        self.dead = False

    def submit(self, request: SequenceRequest) -> None:
        """Refuse it."""
        end = End(kind="failed", error="this model gives embeddings and generates no text")
        self._put(StepReport(outputs=(Output(key=request.key, end=end),), stats=StepStats()))

    def cancel(self, key: str) -> None:
        """Nothing runs here."""

    def close(self) -> None:
        """Nothing runs here."""


def _no_engine(put: Put) -> EngineDoor:
    return NoEngine(put)


def _post(loop: asyncio.AbstractEventLoop, put: Put, report: StepReport) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process is ending
        loop.call_soon_threadsafe(put, report)


async def _announce(queue: Queue, served: Served, facts: ModelFacts, path: Path) -> None:
    """Put the model into the catalog: from now on it may be asked for."""
    digest = await asyncio.to_thread(local.digest, path)
    modified_s = int((await asyncio.to_thread(path.stat)).st_mtime)
    card = local.card(
        served.ref, facts, context=served.context, digest=digest, modified_s=modified_s
    )
    await presence.add_model(queue.redis, card)
