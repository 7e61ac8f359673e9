"""Loads the model a worker was given: file, weights, engine, text side, catalog entry."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from workers.engine.doors import EngineDoor, StepReport
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner
from workers.metrics import WorkerMetrics
from workers.models import gguf
from workers.models.gguf import ModelFacts
from workers.prompt.model_text import ModelText
from workers.prompt.plan import Prepared, prepare
from workers.served import Served

log = structlog.get_logger()

NO_LIMIT = 1 << 30


@asynccontextmanager
async def load(settings: Settings, queue: Queue, metrics: WorkerMetrics) -> AsyncIterator[Served]:
    """The model of `settings.model`, loaded and announced. Raises BadSetting, BadModelFile,
    BadModel for what cannot be served; the engine ends with the block."""
    started_s = time.monotonic()
    ref, path = local.resolve(settings)
    facts = await asyncio.to_thread(gguf.read, path)
    async with AsyncExitStack() as stack:
        runner = await asyncio.to_thread(_open, settings, path, stack)
        served = _serve(settings, queue, metrics, ref, facts, runner)
        stack.push_async_callback(asyncio.to_thread, served.engine.close)
        await _announce(queue, served, facts, path)
        seconds = round(time.monotonic() - started_s, 2)
        log.info("model.loaded", model=ref, seconds=seconds, cells=runner.cells)
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


def _open(settings: Settings, path: Path, stack: AsyncExitStack) -> LlamaRunner:
    return stack.enter_context(
        LlamaRunner.open(
            path,
            gpu_layers=settings.gpu_layers,
            slots=settings.slots,
            cells=settings.cells,
            context=settings.context,
            threads=settings.threads,
            exact=settings.exact,
            batch_rows=max(512, settings.prefill_budget + settings.slots),
        )
    )


def _serve(
    settings: Settings,
    queue: Queue,
    metrics: WorkerMetrics,
    ref: str,
    facts: ModelFacts,
    runner: LlamaRunner,
) -> Served:
    loop = asyncio.get_running_loop()

    def open_engine(put: Callable[[StepReport], None]) -> EngineDoor:
        engine = Engine(
            runner,
            deliver=partial(_post, loop, put),
            prefill_budget=settings.prefill_budget,
            prefix_cache=settings.prefix_cache,
        )
        engine.start()
        return engine

    return Served(
        ref,
        Text(ModelText(runner.vocab, facts), context=runner.context_length),
        queue=queue,
        settings=settings,
        context=runner.context_length,
        slots=runner.slots,
        bytes=facts.size_bytes,
        metrics=metrics.of(ref),
        open_engine=open_engine,
    )


def _post(
    loop: asyncio.AbstractEventLoop, put: Callable[[StepReport], None], report: StepReport
) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process is ending
        loop.call_soon_threadsafe(put, report)


async def _announce(queue: Queue, served: Served, facts: ModelFacts, path: Path) -> None:
    """Put the model into the catalog: from now on it may be asked for."""
    digest = await asyncio.to_thread(local.digest, path)
    modified_s = int(path.stat().st_mtime)
    card = local.card(
        served.ref, facts, context=served.context, digest=digest, modified_s=modified_s
    )
    await presence.add_model(queue.redis, card)
