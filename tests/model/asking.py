"""Requests through plan and engine as a worker puts them there, several at a time, and the answers.

`WHOLE=1` in the environment asks for the long form of the tests that draw many answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice

from shared.events import ChoiceEnd, Event, ReasoningDelta, TextDelta, ToolCallDelta
from shared.requests import Generate
from workers.engine.doors import SequenceRequest, StepReport
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner
from workers.prompt.model_text import ModelText
from workers.prompt.plan import prepare

WHOLE = bool(os.environ.get("WHOLE"))


class Answer:
    """What one request's only choice said. `calls` are (name, arguments as text)."""

    def __init__(self) -> None:
        self.text = ""
        self.calls: list[tuple[str, str]] = []
        self.end: ChoiceEnd | None = None

    @property
    def reason(self) -> str:
        """Why it ended."""
        assert self.end is not None
        return self.end.reason

    def take(self, event: Event) -> None:
        """One more event."""
        match event:
            case TextDelta(text=text):
                self.text += text
            case ToolCallDelta(name=str(name), arguments=arguments):
                self.calls.append((name, arguments))
            case ToolCallDelta(index=index, arguments=arguments):
                name, before = self.calls[index]
                self.calls[index] = (name, before + arguments)
            case ReasoningDelta():
                raise AssertionError("the default model does not think")


class Asking:
    """An engine of its own over a runner, stepped by hand."""

    def __init__(self, runner: LlamaRunner, text: ModelText) -> None:
        self._runner = runner
        self._text = text
        self._engine = Engine(runner, deliver=self._take)
        self._answers: dict[str, Answer] = {}

    def all(self, requests: Iterable[Generate], *, at_once: int = 8) -> list[Answer]:
        """The answers in the order of the requests, `at_once` of them in work at any time."""
        waiting = iter([self._prepared(request) for request in requests])
        for request in islice(waiting, at_once):
            self._engine.submit(request)
        while any(answer.end is None for answer in self._answers.values()):
            live = self._live
            self._engine.step()
            for request in islice(waiting, live - self._live):
                self._engine.submit(request)
        answers = list(self._answers.values())
        self._answers = {}
        return answers

    def close(self) -> None:
        """Leave the runner's memory empty."""
        self._engine.slots.drop_idle()
        self._engine.step()

    @property
    def _live(self) -> int:
        return sum(answer.end is None for answer in self._answers.values())

    def _prepared(self, request: Generate) -> SequenceRequest:
        self._answers[request.id] = Answer()
        plan = prepare(request, self._text, now_s=0, context=self._runner.context_length)
        return SequenceRequest(
            key=request.id,
            prompt=plan.prompt,
            max_tokens=request.max_tokens or self._runner.context_length,
            pipeline=plan.pipeline,
            mask=plan.mask,
            sampling=request.sampling,
            seed=request.sampling.seed or 0,
        )

    def _take(self, report: StepReport) -> None:
        for output in report.outputs:
            answer = self._answers[output.key]
            for event in output.events:
                answer.take(event)
            if output.end is not None:
                assert output.end.kind == "finished", output.end
                answer.end = output.end.choices[0]
