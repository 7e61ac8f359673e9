"""What llama-cpp-python's own high-level class says, greedily, and how close its choices were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from workers.engine.runner import GGML_TYPE_BF16

NEAR_TIE = 0.05  # logits; numbers differ a little with the shape of a batch
ENDS = (0, 2, 4)  # SmolLM2's


def no_end(_: NDArray[np.intc], logits: NDArray[np.single]) -> NDArray[np.single]:
    """A logits processor that forbids the end."""
    logits[list(ENDS)] = -np.inf
    return logits


class Reference:
    """One context, one sequence at a time."""

    def __init__(self, llama: llama_cpp.Llama) -> None:
        self._llama = llama

    @classmethod
    @contextmanager
    def open(cls, path: Path, **options: Any) -> Iterator[Reference]:
        """Load the model once more, with the arithmetic of attention that exact runners ask for:
        with another one every logit differs by some tenths, and near-ties are many. `options` are
        the class's own."""
        llama = llama_cpp.Llama(
            str(path),
            n_ctx=2048,
            n_batch=512,
            verbose=False,
            flash_attn=True,
            **{"type_v": GGML_TYPE_BF16, **options},
        )
        with closing(llama):
            yield cls(llama)

    def greedy(self, prompt: Sequence[int], count: int, *, ends: bool = True) -> list[int]:
        """The first `count` tokens; fewer if it may end and does."""
        said: list[int] = []
        self._llama.reset()
        bans = llama_cpp.LogitsProcessorList([] if ends else [no_end])
        for token in self._llama.generate(list(prompt), temp=0.0, logits_processor=bans):
            said.append(int(token))
            if len(said) == count or token in ENDS:
                break
        return said

    def gap(self, tokens: Sequence[int], one: int, other: int) -> float:
        """How far apart the logits of two tokens are behind `tokens`."""
        self._llama.reset()
        self._llama.eval(list(tokens))
        row = self._llama._ctx.get_logits_ith(-1)
        return abs(float(row[one]) - float(row[other]))

    def check(
        self,
        prompt: Sequence[int],
        said: Sequence[int],
        *,
        ends: bool = True,
        tie: float = NEAR_TIE,
    ) -> int:
        """`said` is what this says too, token by token, up to a near-tie; how many agreed."""
        expected = self.greedy(prompt, len(said), ends=ends)
        for at, (ours, theirs) in enumerate(zip(said, expected, strict=True)):
            if ours != theirs:
                gap = self.gap([*prompt, *expected[:at]], ours, theirs)
                assert gap < tie, f"token {at}: {ours} is not {theirs}, {gap:.3f} apart"
                return at
        return len(said)
