"""Decode a few tokens: `python -m workers.selftest [GGUF]`. A bad build of llama.cpp dies
here, in a process of its own, and not later in a worker.

Without a model file it can only load the library, and says that.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

from shared import settings
from shared.events import ChoiceEnd, Event, Logprob, TextDelta
from shared.requests import Sampling
from workers.engine.doors import End, SequenceRequest, StepReport
from workers.engine.engine import Engine
from workers.engine.runner import LlamaRunner
from workers.engine.weights import BadModel

DEFAULT = "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = 8
PATIENCE_S = 120.0


class _Text:
    """doors.TextPipeline that only joins."""

    end: ChoiceEnd | None = None

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        return (TextDelta(text=piece.decode("utf-8", "replace")),)

    def flush(self) -> Sequence[Event]:
        return ()


class _Answer:
    """Collects one job's text until it ends."""

    def __init__(self) -> None:
        self.text = ""
        self.end: End | None = None
        self.over = threading.Event()

    def take(self, report: StepReport) -> None:
        for output in report.outputs:
            self.text += "".join(e.text for e in output.events if isinstance(e, TextDelta))
            if output.end is not None:
                self.end = output.end
                self.over.set()


def answer(path: Path, prompt: str) -> _Answer:
    """What the model at `path` says to `prompt`, greedily. Raises BadModel."""
    said = _Answer()
    with LlamaRunner.open(path, slots=1, context=256) as runner:
        engine = Engine(runner, deliver=said.take)
        engine.start()
        tokens = runner.vocab.tokenize(prompt, add_special=True) or (0,)
        engine.submit(
            SequenceRequest(
                key="self-test",
                prompt=tokens,
                max_tokens=TOKENS,
                pipeline=lambda _: _Text(),
                sampling=Sampling(temperature=0),
                ignore_eos=True,
            )
        )
        said.over.wait(PATIENCE_S)
        engine.close()
    return said


def main(arguments: Sequence[str]) -> str:
    """The line to print. Raises BadModel, or dies with the library."""
    given = Path(arguments[0]) if arguments else settings.read().home / "models" / DEFAULT
    if not arguments and not given.is_file():
        llama_cpp.llama_backend_init()
        return f"there is no {given}: llama.cpp was loaded, nothing was decoded"
    said = answer(given, "The capital of France is")
    if said.end is None or said.end.kind != "finished":
        raise BadModel(f"{given} did not decode: {said.end and said.end.error}")
    return f"{given.name} decoded {said.end.completion_tokens} tokens: {said.text!r}"


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except BadModel as error:
        sys.exit(f"caravan: {error}")
