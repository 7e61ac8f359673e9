"""One generation in flight: its tokens, where it stands, and nothing of the others.

WAITING -> PREFILL -> DECODE -> DONE. Back to WAITING only when its cells were taken away; the
tokens stay and are prefilled again. Only this file changes a status.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence as Tokens

from shared.events import ChoiceEnd
from shared.requests import Lane
from workers.engine.adapters import AdapterSet
from workers.engine.media import TEXT_ONLY, Layout
from workers.engine.voice import Voice


class Status(enum.Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"


class Sequence:
    """One choice of one job. `order` is the job's place in the order of arrival.

    `computed` of its `tokens` are in the KV memory of `slot`; the last token is never computed
    before the next one is wanted, unless as one of the `drafts` that were computed on trial.
    `heard` tokens went through the voice.
    """

    def __init__(
        self,
        prompt: Tokens[int],
        resumed: Tokens[int],
        *,
        choice: int,
        order: int,
        lane: Lane,
        layout: Layout = TEXT_ONLY,
        adapters: AdapterSet = (),
    ) -> None:
        self.tokens = [*prompt, *resumed]
        self.prompt_length = len(prompt)
        self.choice = choice
        self.order = order
        self.lane = lane
        self.layout = layout
        self.adapters = adapters
        self.status = Status.WAITING
        self.slot = -1
        self.computed = 0
        self.cached = 0
        self.heard = len(self.tokens)
        self.drafts: Tokens[int] = ()
        self.drafted = 0
        self.accepted = 0
        self.voice: Voice | None = None
        self.end: ChoiceEnd | None = None

    @property
    def generated(self) -> int:
        """Tokens behind the prompt, resumed ones too."""
        return len(self.tokens) - self.prompt_length

    @property
    def remaining(self) -> int:
        """Tokens that are not in the KV memory yet; 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def lag(self) -> int:
        """By how much the position of its next token to compute is less than its index."""
        return self.layout.lag(self.computed)

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Who goes first: interactive before batch, then who came first."""
        return (self.lane == "batch", self.order, self.choice)

    @property
    def shareable(self) -> int:
        """How many leading tokens may come from elsewhere: not those whose logits it needs."""
        return self.heard - 1

    def begin(self, slot: int, *, cached: int) -> None:
        """It has a slot in which `cached` of its tokens are computed already."""
        assert self.status is Status.WAITING
        self.status, self.slot, self.computed = Status.PREFILL, slot, cached
        self.cached = max(self.cached, min(cached, self.prompt_length))

    def outputs(self, count: int) -> int:
        """How many of its next `count` rows must give logits: those that speak, at the end."""
        return max(0, self.computed + count - (self.heard - 1))

    def advance(self, count: int, drafts: Tokens[int] = ()) -> None:
        """`count` more tokens were computed, and behind them what may follow."""
        self.computed += count
        self.drafts = drafts
        self.drafted += len(drafts)
        if self.status is Status.PREFILL and not self.remaining:
            self.status = Status.DECODE

    def fork_from(self, leader: Sequence, slot: int) -> None:
        """Stand where `leader` stands, in a slot that shares its memory."""
        self.begin(slot, cached=0)
        self.cached = self.prompt_length
        self.advance(leader.computed)

    def append(self, token: int) -> None:
        """One more token was drawn. If it is the next draft, it is computed already."""
        self.tokens.append(token)
        self.heard += 1
        if token == next(iter(self.drafts), None):
            self.drafts = self.drafts[1:]
            self.computed += 1
            self.accepted += 1
        else:
            self.drafts = ()

    def requeue(self) -> None:
        """Its slot was taken away: wait, then prefill everything again."""
        assert self.status in (Status.PREFILL, Status.DECODE)
        self.status, self.slot, self.computed = Status.WAITING, -1, 0

    def finish(self, end: ChoiceEnd | None = None) -> None:
        """It is over; whoever keeps the slots takes its slot back."""
        self.status = Status.DONE
        self.end = end
        if self.voice is not None:
            self.voice.close()
            self.voice = None
