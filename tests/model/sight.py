"""A tiny model that sees, open for a test: its runner, its projector, and the library's own way."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from tests.model.tiny_vision import WRITERS
from tests.workers.engine.desk import Desk
from workers.engine.media import Media
from workers.engine.runner import GGML_TYPE_BF16, LlamaRunner
from workers.engine.weights import Weights, open_weights
from workers.media.projector import MARKER, Projector, open_projector
from workers.models import projectors
from workers.prompt.attachments import Attachment

Question = tuple[str, Attachment, str]


class Sight:
    """One pair of model and projector. `desk` opens an engine over a context of its own."""

    def __init__(
        self, weights: Weights, projector: Projector, path: Path, stack: ExitStack
    ) -> None:
        self.weights = weights
        self.projector = projector
        self.projector_path = path
        self._stack = stack

    @classmethod
    @contextmanager
    def open(cls, folder: Path, kind: str) -> Iterator[Sight]:
        """Written anew into `folder`."""
        model, projector = WRITERS[kind](folder)
        with ExitStack() as stack:
            weights = stack.enter_context(open_weights(model))
            facts = projectors.read(projector)
            opened = stack.enter_context(open_projector(facts, weights, threads=1))
            yield cls(weights, opened, projector, stack)

    def desk(self, *, prefill_budget: int = 10, **options: Any) -> Desk:
        """Exact, so that company does not change a number."""
        options = {"slots": 4, "cells": 1024, "threads": 1, "exact": True, **options}
        runner = self._stack.enter_context(LlamaRunner.share(self.weights, **options))
        return Desk(runner, prefill_budget=prefill_budget)

    def prompt(self, question: Question) -> tuple[tuple[int, ...], tuple[Media, ...]]:
        """Its tokens and placeholders, and what these stand for."""
        before, image, behind = question
        ids = self.projector.measure(image)
        tokenize = self.weights.vocab.tokenize
        return (*tokenize(before), *ids, *tokenize(behind)), self.projector.encode(image)

    def ask(self, desk: Desk, question: Question, *, key: str, **fields: Any) -> None:
        """Submit it."""
        prompt, media = self.prompt(question)
        desk.submit(prompt, key=key, media=media, **{"ignore_eos": True, **fields})

    def reference(self, question: Question, count: int) -> list[int]:
        """The greedy answer by llama.cpp's own helper, which knows nothing of batching."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = 1
        params.type_v = GGML_TYPE_BF16  # exact, as the engine's
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        context = llama_cpp.llama_init_from_model(self.weights.pointer, params)
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            at = ctypes.c_int32(self._evaluate(question, context, chunks))
            return [self._next(context, at) for _ in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)
            llama_cpp.llama_free(context)

    def _evaluate(self, question: Question, context: Any, chunks: Any) -> int:
        before, image, behind = question
        text = before.encode() + MARKER + behind.encode()
        wanted = mtmd.mtmd_input_text(text, len(text), False, True)
        with self.projector._bitmap(image) as bitmap:
            bitmaps = (ctypes.c_void_p * 1)(bitmap)
            tokenized = mtmd.mtmd_tokenize(
                self.projector._context, chunks, ctypes.byref(wanted), bitmaps, 1
            )
        assert tokenized == 0
        past = ctypes.c_int32(0)
        done = mtmd.mtmd_helper_eval_chunks(
            self.projector._context, context, chunks, 0, 0, 512, True, ctypes.byref(past)
        )
        assert done == 0
        return past.value

    def _next(self, context: Any, at: ctypes.c_int32) -> int:
        row = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(context, -1), shape=(self.weights.vocab.n_vocab,)
        ).copy()
        row[list(self.weights.vocab.eog)] = -np.inf
        token = int(row.argmax())
        batch = llama_cpp.llama_batch_get_one((ctypes.c_int32 * 1)(token), 1)
        assert llama_cpp.llama_decode(context, batch) == 0
        at.value += 1
        return token
