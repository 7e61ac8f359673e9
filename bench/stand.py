"""The default model and engines stepped by hand, for benches of single ideas."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from bench.engine_loop import GREEDY, Silent
from bench.prompts import prompt
from shared.requests import Sampling
from shared.settings import Settings
from workers.engine.adapters import AdapterSet
from workers.engine.constraints import MaskFactory
from workers.engine.doors import SequenceRequest, StepReport
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner
from workers.engine.speculation import Speculation
from workers.engine.weights import Weights
from workers.opening import runner_of

Tokens = tuple[int, ...]


class NoSharing:
    """A runner whose engine believes that no memory can be shared: the cache is off."""

    can_cut = False

    def __init__(self, runner: LlamaRunner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class Bench:
    """An engine stepped by hand, and when each of its tokens came (seconds)."""

    def __init__(self, runner: Any, settings: Settings, *, draft_max: int = 0) -> None:
        self.engine = Engine(
            runner,
            deliver=self._take,
            prefill_budget=settings.prefill_budget,
            prefill_stretch=settings.prefill_stretch,
            prefix_cache=settings.prefix_cache,
            host_cache_bytes=settings.host_cache_mib << 20,
            speculation=Speculation(most=draft_max),
        )
        self.times_s: dict[str, list[float]] = defaultdict(list)
        self.ended: set[str] = set()
        self.drafted = self.accepted = 0

    def submit(
        self,
        key: str,
        tokens: Tokens,
        *,
        most: int,
        mask: MaskFactory | None = None,
        sampling: Sampling = GREEDY,
        adapters: AdapterSet = (),
    ) -> None:
        """An answer of `most` tokens that cannot end before, but by its mask."""
        request = SequenceRequest(
            key=key,
            prompt=tokens,
            max_tokens=most,
            pipeline=lambda _: Silent(),
            sampling=sampling,
            ignore_eos=mask is None,
            mask=mask,
            adapters=adapters,
        )
        self.engine.submit(request)

    def run(self, until: Callable[[], bool]) -> float:
        """Step until then; seconds."""
        began_s = time.perf_counter()
        while not until():
            self.engine.step()
        return time.perf_counter() - began_s

    def _take(self, report: StepReport) -> None:
        now_s = time.perf_counter()
        self.drafted += report.stats.draft_tokens
        self.accepted += report.stats.accepted_tokens
        for output in report.outputs:
            self.times_s[output.key] += [now_s for _, ids in output.tokens for _ in ids]
            if output.end is not None:
                self.ended.add(output.key)


class Stand:
    """The default model, and a fresh engine on it for each measurement."""

    def __init__(self, weights: Weights, settings: Settings) -> None:
        self.vocab = weights.vocab
        self._weights = weights
        self._settings = settings

    @contextmanager
    def bench(self, *, sharing: bool = True, draft_max: int = 0, **changed: int) -> Iterator[Bench]:
        """An engine as a worker with these settings, some of them changed, would open it, without
        guesses unless asked for: what else is measured is not to depend on what the text is."""
        settings = replace(self._settings, **changed)
        with runner_of(self._weights, settings) as runner:
            opened = Bench(runner if sharing else NoSharing(runner), settings, draft_max=draft_max)
            opened.submit("warm", self.tokens(7, 40), most=4)
            opened.run(lambda: "warm" in opened.ended)
            yield opened

    def tokens(self, seed: int, count: int) -> Tokens:
        """Exactly `count` tokens of a text that differs by seed from the first word on."""
        return self.vocab.tokenize(prompt(seed, words=count))[:count]
