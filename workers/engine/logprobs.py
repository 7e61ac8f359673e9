"""Log probabilities of a row: the model's own, before masks, penalties and temperature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.events import Logprob, TokenLogprob
from workers.engine.plan import Logits


class RowLogprobs:
    """A row's log-softmax and its `count` best tokens, taken before the row is restricted."""

    def __init__(self, logits: Logits, count: int) -> None:
        self._logits = logits.copy()
        peak = float(logits.max())
        self._norm = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
        self._best = _best(logits, count)

    def of(self, token: int, piece: Callable[[int], bytes]) -> Logprob:
        """The chosen token and the alternatives, most likely first."""
        top = tuple(self._entry(int(other), piece) for other in self._best)
        return Logprob(chosen=self._entry(token, piece), top=top)

    def _entry(self, token: int, piece: Callable[[int], bytes]) -> TokenLogprob:
        value = float(self._logits[token]) - self._norm
        return TokenLogprob(token=piece(token), logprob=min(0.0, value), id=token)


def _best(logits: Logits, count: int) -> list[int]:
    if not count:
        return []
    some = np.argpartition(logits, -count)[-count:]
    return [int(token) for token in some[np.argsort(-logits[some], kind="stable")]]
