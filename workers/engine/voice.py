"""What one choice says: its sampler, its grammar and its text. A row of logits in, events out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shared.events import ChoiceEnd, Event, Logprob, ReasoningDelta
from workers.engine.doors import SequenceRequest
from workers.engine.logprobs import RowLogprobs
from workers.engine.plan import Runner
from workers.engine.seeds import mix


class Said(msgspec.Struct, frozen=True):
    """One token and what came of it; `token` None: the grammar and the limits left none."""

    token: int | None
    events: tuple[Event, ...] = ()
    end: ChoiceEnd | None = None


class Voice:
    """Opened when the sequence first gets a slot; `close` frees the sampler.

    `most` tokens may follow the prompt. Resumed tokens are heard, not said: the same path, with the
    events thrown away, because the journal has them.
    """

    def __init__(self, runner: Runner, request: SequenceRequest, *, choice: int, most: int) -> None:
        self._runner = runner
        self._ends = frozenset(runner.ends.tolist())
        self._most = most
        self._min_tokens = most if request.ignore_eos else request.min_tokens
        self._logprobs = request.logprobs
        self._mask = request.mask(choice) if request.mask else None
        self._pipeline = request.pipeline(choice)
        self._sampler = runner.sampler(request.sampling, seed=mix(request.seed, choice))
        self._said = 0
        self._unsorted = 0
        self.reasoning_tokens = 0

    @property
    def needs_logits(self) -> bool:
        """Whether resumed tokens must be heard with their rows."""
        return self._sampler.needs_logits

    def hear(self, token: int) -> ChoiceEnd | None:
        """A resumed token; a ChoiceEnd if it was the last."""
        self._sampler.accept(token)
        return self._take(token, None).end

    def hear_row(self, token: int, row: int, *, position: int) -> ChoiceEnd | None:
        """The same where the sampler needs to see the row the token was drawn from."""
        if self._restrict(row):
            self._sampler.draw(row, position)
        return self._take(token, None).end

    def speak(self, row: int, *, position: int) -> Said:
        """Draw the token for `position` from batch row `row`."""
        chances = None
        if self._logprobs is not None:
            chances = RowLogprobs(self._runner.logits(row), self._logprobs)
        if not self._restrict(row):
            return Said(None, *self._over("stop"))
        token = self._sampler.draw(row, position)
        logprob = None if chances is None else chances.of(token, self._runner.piece)
        return self._take(token, logprob)

    def cut_short(self) -> Said:
        """End for lack of room: what is held back, and `length`."""
        return Said(None, *self._over("length"))

    def close(self) -> None:
        """Free the sampler."""
        self._sampler.close()

    def _restrict(self, row: int) -> bool:
        """Forbid what grammar and limits forbid; False if that leaves nothing."""
        no_end = self._said < self._min_tokens
        if self._mask is None and not no_end:
            return True
        logits = self._runner.logits(row)
        if self._mask is not None:
            self._mask.apply(logits)
        if no_end:
            logits[self._runner.ends] = -np.inf
        return self._mask is None or bool(logits.max() > -np.inf)

    def _take(self, token: int, logprob: Logprob | None) -> Said:
        self._said += 1
        if token in self._ends:
            return Said(token, *self._over("stop"))
        if self._mask is not None:
            self._mask.accept(token)
        events = self._sorted(self._pipeline.feed(self._runner.piece(token), logprob))
        if self._pipeline.end or (self._mask is not None and self._mask.ended):
            rest, end = self._over("stop")
        elif self._said >= self._most:
            rest, end = self._over("length")
        else:
            return Said(token, events)
        return Said(token, events + rest, end)

    def _over(self, reason: str) -> tuple[tuple[Event, ...], ChoiceEnd]:
        """The text's last events and the choice's end. A text that ended itself knows why."""
        ended = self._pipeline.end
        rest = tuple(self._pipeline.flush())
        if ended is None and reason == "stop":
            ended = self._pipeline.end
        return rest, ended or ChoiceEnd(reason="length" if reason == "length" else "stop")

    def _sorted(self, events: Sequence[Event]) -> tuple[Event, ...]:
        """Count tokens of reasoning: a token belongs to the first text that came after it."""
        self._unsorted += 1
        if events:
            if isinstance(events[0], ReasoningDelta):
                self.reasoning_tokens += self._unsorted
            self._unsorted = 0
        return tuple(events)
