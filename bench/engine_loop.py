"""The bare engine loop: no HTTP, no Redis, no text. `python -m bench.engine_loop [GGUF]`.

What the whole path is measured against: the engine a worker would open, fed from memory with the
prompts that the path sends, rendered by the same template.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.prompts import prompt
from shared.events import ChoiceEnd, Event, Logprob
from shared.messages import Message, Text
from shared.requests import Chat, Generate, Sampling
from shared.settings import Settings, read
from workers import local
from workers.engine.doors import SequenceRequest, StepReport
from workers.engine.engine import Engine
from workers.engine.plan import Plan
from workers.engine.runner import LlamaRunner
from workers.engine.speculation import Speculation
from workers.engine.weights import open_weights
from workers.models import gguf
from workers.opening import runner_of
from workers.prompt.model_text import ModelText
from workers.prompt.plan import prepare

STREAMS = (1, 4, 8)
GREEDY = Sampling(temperature=0)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that started together. `ttft_s` is each one's; `step_ms` and `loop_ms` are medians
    over the steps that decode all of them, `loop_ms` the part that is not llama_decode."""

    prompt_tokens: int
    tokens_per_s: float
    ttft_s: tuple[float, ...]
    step_ms: float
    loop_ms: float


class Silent:
    """doors.TextPipeline that makes no text."""

    end: ChoiceEnd | None = None

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        """Nothing."""
        return ()

    def flush(self) -> Sequence[Event]:
        """Nothing."""
        return ()


class TimedRunner:
    """A runner that notes how long each llama_decode took, to the point where logits can be read.
    Everything else in a step is the loop's own."""

    def __init__(self, runner: LlamaRunner) -> None:
        self.decode_ms = 0.0
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def decode(self, plan: Plan) -> bool:
        """The runner's."""
        began_s = time.perf_counter()
        done = self._runner.decode(plan)
        if plan.chunks and plan.chunks[-1].outputs:
            self._runner.logits(sum(len(chunk.tokens) for chunk in plan.chunks) - 1)
        self.decode_ms = 1000 * (time.perf_counter() - began_s)
        return done


class Loop:
    """An open engine. One `run` at a time."""

    def __init__(self, runner: LlamaRunner, text: ModelText, settings: Settings) -> None:
        self._runner = TimedRunner(runner)
        self._text = text
        self.engine = Engine(
            self._runner,
            deliver=self._take,
            prefill_budget=settings.prefill_budget,
            prefill_stretch=settings.prefill_stretch,
            speculation=Speculation(most=settings.draft_max),
            prefix_cache=settings.prefix_cache,
        )
        self._streams = 0
        self._over = threading.Event()
        self._first_s: dict[str, float] = {}
        self._ended: set[str] = set()
        self._steps: list[tuple[float, float]] = []

    def run(self, seeds: Sequence[int], *, tokens: int, sampling: Sampling = GREEDY) -> Run:
        """Decode `tokens` tokens of one prompt a seed, all submitted at once."""
        requests = [self._request(seed, tokens, sampling) for seed in seeds]
        self._streams, self._first_s, self._ended, self._steps = len(seeds), {}, set(), []
        self._over.clear()
        began_s = time.monotonic()
        for request in requests:
            self.engine.submit(request)
        self._over.wait()
        took_s = time.monotonic() - began_s
        steps = self._steps or [(0.0, 0.0)]
        return Run(
            prompt_tokens=sum(len(request.prompt) for request in requests),
            tokens_per_s=len(seeds) * tokens / took_s,
            ttft_s=tuple(first_s - began_s for first_s in self._first_s.values()),
            step_ms=statistics.median(whole for whole, _ in steps),
            loop_ms=statistics.median(whole - decode for whole, decode in steps),
        )

    def _request(self, seed: int, tokens: int, sampling: Sampling) -> SequenceRequest:
        message = Message(role="user", content=(Text(text=prompt(seed)),))
        asked = Generate(id=str(seed), model="", input=Chat(messages=(message,)))
        prepared = prepare(
            asked, self._text, now_s=time.time(), context=self._runner.context_length
        )
        return SequenceRequest(
            key=str(seed),
            prompt=prepared.prompt,
            max_tokens=tokens,
            pipeline=lambda _: Silent(),
            sampling=sampling,
            seed=seed,
            ignore_eos=True,
        )

    def _take(self, report: StepReport) -> None:
        now_s = time.monotonic()
        stats = report.stats
        if stats.decode_rows == self._streams and not stats.prefill_rows:
            self._steps.append((stats.step_ms, self._runner.decode_ms))
        for output in report.outputs:
            if output.tokens:
                self._first_s.setdefault(output.key, now_s)
            if output.end is not None:
                self._ended.add(output.key)
        if len(self._ended) == self._streams:
            self._over.set()


@contextmanager
def open_loop(settings: Settings, path: Path | None = None) -> Iterator[Loop]:
    """The engine a worker with these settings would open, on its model or another file."""
    path = path or local.resolve(settings)[1]
    with (
        open_weights(path, gpu_layers=settings.gpu_layers) as weights,
        runner_of(weights, settings) as runner,
    ):
        loop = Loop(runner, ModelText(runner.vocab, gguf.read(path)), settings)
        loop.engine.start()
        try:
            yield loop
        finally:
            loop.engine.close()


def run_engine_loop(model_path: str | Path, streams: int, tokens: int) -> dict[str, Any]:
    """One warm-up and one run, as numbers: see Run."""
    with open_loop(read(), Path(model_path)) as loop:
        loop.run([streams], tokens=4)
        return msgspec.to_builtins(loop.run(range(streams), tokens=tokens))


def main(arguments: Sequence[str]) -> None:
    """A line for each number of streams, sampled as callers do who say nothing."""
    with open_loop(read(), Path(arguments[0]) if arguments else None) as loop:
        loop.run([0], tokens=4)
        for streams in STREAMS:
            seeds = range(100 * streams, 101 * streams)
            run = loop.run(seeds, tokens=64, sampling=Sampling())
            print(
                f"{streams} streams: {run.tokens_per_s:.0f} tokens/s, first token after "
                f"{1000 * statistics.median(run.ttft_s):.0f} ms, step {run.step_ms:.1f} ms, of "
                f"which the loop {run.loop_ms:.2f} ms ({100 * run.loop_ms / run.step_ms:.1f} %)"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
