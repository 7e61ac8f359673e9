"""What the engine's own ideas are worth, each against the same engine without it, in one run.

A prompt that users share is computed once; a long prompt leaves running streams their pace; a
schema costs a mask a token; embeddings of many texts share their decodes.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import llama_server
from bench.embeddings import embeddings
from bench.engine_loop import GREEDY, Silent
from bench.prompts import prompt
from shared.requests import JsonSchema
from shared.settings import Settings, read
from workers import local
from workers.engine.constraints import Compiler, MaskFactory
from workers.engine.doors import SequenceRequest, StepReport
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner

Tokens = tuple[int, ...]

ROUNDS = 3
USERS, COMMON_TOKENS, ANSWER_TOKENS = 16, 900, 32
STREAMS, LONG_TOKENS, BEFORE_TOKENS, MOST_TOKENS = 4, 4000, 32, 400
CONSTRAINED_STREAMS, CONSTRAINED_TOKENS = 8, 96
PEOPLE = {
    "type": "array",
    "minItems": 30,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "city": {"type": "string"},
            "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
        },
        "required": ["name", "age", "city", "tags"],
        "additionalProperties": False,
    },
}


class NoSharing:
    """A runner whose engine believes that no memory can be shared: the cache is off."""

    can_cut = False

    def __init__(self, runner: LlamaRunner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class Bench:
    """An engine stepped by hand, and when each of its tokens came (seconds)."""

    def __init__(self, runner: Any, settings: Settings) -> None:
        self.engine = Engine(
            runner,
            deliver=self._take,
            prefill_budget=settings.prefill_budget,
            prefill_stretch=settings.prefill_stretch,
            prefix_cache=settings.prefix_cache,
        )
        self.times_s: dict[str, list[float]] = defaultdict(list)
        self.ended: set[str] = set()

    def submit(
        self, key: str, tokens: Tokens, *, most: int, mask: MaskFactory | None = None
    ) -> None:
        """A greedy answer of `most` tokens that cannot end before, but by its mask."""
        request = SequenceRequest(
            key=key,
            prompt=tokens,
            max_tokens=most,
            pipeline=lambda _: Silent(),
            sampling=GREEDY,
            ignore_eos=mask is None,
            mask=mask,
        )
        self.engine.submit(request)

    def run(self, until: Callable[[], bool]) -> float:
        """Step until then; seconds."""
        began_s = time.perf_counter()
        while not until():
            self.engine.step()
        return time.perf_counter() - began_s

    def close(self) -> None:
        """Leave the runner's memory empty."""
        self.engine.close()
        self.engine._end_all()
        self.engine.slots.drop_idle()
        self.engine.step()

    def _take(self, report: StepReport) -> None:
        now_s = time.perf_counter()
        for output in report.outputs:
            self.times_s[output.key] += [now_s for _, ids in output.tokens for _ in ids]
            if output.end is not None:
                self.ended.add(output.key)


@contextmanager
def bench(runner: Any, settings: Settings) -> Iterator[Bench]:
    """A fresh engine over the runner, which is empty again behind it."""
    opened = Bench(runner, settings)
    try:
        yield opened
    finally:
        opened.close()
