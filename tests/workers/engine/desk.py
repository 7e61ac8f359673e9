"""An engine that tests step by hand: submits prompts as text and collects what is delivered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from shared.events import ReasoningDelta, TextDelta
from shared.requests import Sampling
from tests.fakes import PlainText, ScriptedRunner
from workers.engine.doors import End, SequenceRequest, StepReport, StepStats, TextPipeline
from workers.engine.engine import Engine

GREEDY = Sampling(temperature=0)


class Desk:
    """`text[key]`, `tokens[key][choice]` and `ends[key]` are what the engine delivered so far."""

    def __init__(self, runner: Any = None, **config: Any) -> None:
        self.runner = runner or ScriptedRunner()
        self.engine = Engine(self.runner, deliver=self._take, **config)
        self.text: dict[str, str] = defaultdict(str)
        self.tokens: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.ends: dict[str, End] = {}
        self.admitted: list[str] = []
        self.stats: list[StepStats] = []
        self.reports: list[StepReport] = []

    def submit(
        self,
        prompt: str | Sequence[int],
        *,
        key: str = "",
        max_tokens: int = 8,
        stop: str = "",
        pipeline: Callable[[int], TextPipeline] | None = None,
        **fields: Any,
    ) -> str:
        """Submit; the key is the prompt itself unless given."""
        request = SequenceRequest(
            key=key or str(prompt),
            prompt=tuple(prompt.encode() if isinstance(prompt, str) else prompt),
            max_tokens=max_tokens,
            pipeline=pipeline or (lambda _: PlainText(stop)),
            **{"sampling": GREEDY, **fields},
        )
        self.engine.submit(request)
        return request.key

    def step(self, times: int = 1) -> None:
        """Some steps; the books are checked after each."""
        for _ in range(times):
            self.engine.step()
            self.engine.slots.check()

    def run(self, most: int = 500) -> None:
        """Step until nothing is left to do."""
        self.step()
        for _ in range(most):
            if not self.engine.busy:
                return
            self.step()
        raise AssertionError("the engine does not come to an end")

    def answer(self, prompt: str | Sequence[int], **fields: Any) -> str:
        """Submit, run to the end, and the text."""
        key = self.submit(prompt, **fields)
        self.run()
        return self.text[key]

    def _take(self, report: StepReport) -> None:
        self.reports.append(report)
        self.stats.append(report.stats)
        for output in report.outputs:
            assert output.key not in self.ends, "something came after the end"
            if output.admitted:
                self.admitted.append(output.key)
            for choice, ids in output.tokens:
                self.tokens[output.key][choice] += ids
            for event in output.events:
                assert isinstance(event, TextDelta | ReasoningDelta)
                self.text[output.key] += event.text
            if output.end is not None:
                self.ends[output.key] = output.end
