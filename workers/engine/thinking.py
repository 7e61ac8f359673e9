"""A TokenMask around another: first reasoning, free but bounded, then the constraint."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from workers.engine.constraints import TokenMask
from workers.models.vocab import Vocab


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How a model thinks. `closings`: any of them ends it; `force` is the text that closes it.

    `opened`: the prompt ends inside the reasoning. `budget` in tokens, None = no limit. `last`:
    the answer may end here, without ever coming to what the constraint is for.
    """

    opening: str
    closings: tuple[str, ...]
    force: str
    opened: bool
    budget: int | None = None
    last: bool = False


class ThinkingMask:
    """`inner` constrains the answer; the end of generation is forbidden before it then."""

    def __init__(self, vocab: Vocab, thinking: Thinking, inner: TokenMask | None) -> None:
        self._vocab = vocab
        self._thinking = thinking
        self._inner = inner
        self._opener = vocab.single(thinking.opening)
        self._state: Literal["before", "thinking", "answer"] = "before"
        self._tail = b""
        self._count = 0
        self._forced: deque[int] = deque()
        if thinking.opened:
            self._think()

    @property
    def ended(self) -> bool:
        """See TokenMask."""
        return self._state == "answer" and self._inner is not None and self._inner.ended

    @property
    def failed(self) -> str:
        """See TokenMask."""
        return self._inner.failed if self._inner is not None else ""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """See TokenMask."""
        match self._state:
            case "before":
                self._apply_before(logits)
            case "thinking":
                self._apply_thinking(logits)
            case "answer":
                if self._inner is not None:
                    self._inner.apply(logits)

    def accept(self, token: int) -> None:
        """See TokenMask."""
        match self._state:
            case "before":
                self._begin(token)
            case "thinking":
                self._count_thought(token)
            case "answer":
                if self._inner is not None:
                    self._inner.accept(token)

    def _apply_before(self, logits: NDArray[np.float32]) -> None:
        """The answer may begin, or the reasoning (unless there is no budget for any)."""
        opener = self._opener
        kept = logits[opener] if opener is not None else None
        if self._inner is not None:
            self._inner.apply(logits)
        if opener is not None and kept is not None:
            logits[opener] = -np.inf if self._thinking.budget == 0 else kept

    def _apply_thinking(self, logits: NDArray[np.float32]) -> None:
        if self._forced:
            kept = logits[self._forced[0]]
            logits[:] = -np.inf
            logits[self._forced[0]] = kept if np.isfinite(kept) else 0.0
        elif self._inner is not None:
            if not self._thinking.last:
                logits[list(self._vocab.eog)] = -np.inf
            logits[self._crossing()] = -np.inf

    def _begin(self, token: int) -> None:
        self._tail += self._vocab.piece(token)
        opening = self._thinking.opening.encode()
        if self._tail.lstrip().startswith(opening):
            self._think()
        elif self._inner is not None or not opening.startswith(self._tail.lstrip()):
            self._state = "answer"
            if self._inner is not None:
                self._inner.accept(token)

    def _think(self) -> None:
        self._state, self._tail = "thinking", b""
        self._watch()

    def _count_thought(self, token: int) -> None:
        if self._forced and token == self._forced[0]:
            self._forced.popleft()
        self._count += 1
        longest = max(len(closing.encode()) for closing in self._thinking.closings)
        self._tail = (self._tail + self._vocab.piece(token))[-longest - 64 :]
        if any(closing.encode() in self._tail for closing in self._thinking.closings):
            self._state = "answer"
        else:
            self._watch()

    def _watch(self) -> None:
        """Close the reasoning once its budget is spent."""
        budget = self._thinking.budget
        if budget is not None and self._count >= budget and not self._forced:
            self._forced.extend(self._vocab.tokenize(self._thinking.force, parse_special=True))

    def _crossing(self) -> list[int]:
        """Tokens that would close the reasoning and say more: the constraint would not see it."""
        out: list[int] = []
        for closing in self._thinking.closings:
            whole = closing.encode()
            for length in range(1, len(whole)):
                if self._tail.endswith(whole[:length]):
                    out += self._finishing(whole[length:])
        return out

    def _finishing(self, rest: bytes) -> list[int]:
        vocab = self._vocab
        return [token for token in vocab.starting(rest) if vocab.piece(token)[len(rest) :].strip()]


def triggered_masks(
    vocab: Vocab, openers: tuple[str, ...], inner: Callable[[int], TokenMask]
) -> Callable[[int], TokenMask]:
    """Free text, constrained by `inner` once the model writes one of `openers`."""
    free = Thinking(opening="", closings=openers, force="", opened=True, last=True)
    return lambda choice: ThinkingMask(vocab, free, inner(choice))


def thinking_masks(
    vocab: Vocab, thinking: Thinking, inner: Callable[[int], TokenMask] | None
) -> Callable[[int], TokenMask]:
    """A factory of masks, one a choice."""
    return lambda choice: ThinkingMask(vocab, thinking, inner(choice) if inner else None)
