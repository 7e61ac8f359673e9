"""What goes into the engine and what comes out: immutable values, nothing shared.

Two doors: commands in through a queue (`submit`, `cancel`), one callback out a step (`deliver`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from shared.events import ChoiceEnd, Event, Logprob
from shared.requests import Lane, Sampling
from workers.engine.adapters import AdapterSet
from workers.engine.media import Media


class TextPipeline(Protocol):
    """Token bytes to events, for one choice. Pure: see workers/text/pipeline.py."""

    def feed(self, piece: bytes, logprob: Logprob | None = None) -> Sequence[Event]:
        """Events of one more token; empty while text is held back."""

    def flush(self) -> Sequence[Event]:
        """Events of what is still held back; the sequence is over."""

    @property
    def end(self) -> ChoiceEnd | None:
        """Set once the text says it is over (a stop string, a finished forced tool call)."""


class TokenMask(Protocol):
    """Which tokens may come next, for one choice: see workers/engine/constraints.py."""

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Write -inf in place over `logits` [n_vocab] where a token may not come."""

    def accept(self, token: int) -> None:
        """One more token was chosen, or is replayed from the journal."""

    @property
    def ended(self) -> bool:
        """Whether nothing but an end of generation may come."""


class SequenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One job for the engine. `key` is opaque and unique among the engine's live jobs.

    `resumed[c]` are choice c's tokens that the journal has already: they are prefilled behind the
    prompt, counted against `max_tokens`, run through sampler, grammar and pipeline without events.
    `max_tokens` counts from the end of the prompt and never exceeds the context.
    `mask(c)` makes choice c's grammar: cheap, because it was compiled before.
    `media` are what the prompt's placeholders stand for, in their order (see media.py).
    `adapters` are some that the runner has, as adapters.chosen puts them.
    """

    key: str
    prompt: tuple[int, ...]
    max_tokens: int
    pipeline: Callable[[int], TextPipeline]
    resumed: tuple[tuple[int, ...], ...] = ()
    choices: int = 1
    sampling: Sampling = Sampling()
    seed: int = 0
    min_tokens: int = 0
    ignore_eos: bool = False
    logprobs: int | None = None
    mask: Callable[[int], TokenMask] | None = None
    lane: Lane = "interactive"
    media: tuple[Media, ...] = ()
    adapters: AdapterSet = ()


EndKind = Literal["finished", "preempted", "cancelled", "failed"]


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a job left the engine. `error` is for people and only with kind `failed`.

    Counts are of this run: `prompt_tokens` includes nothing resumed, `completion_tokens` does.
    """

    kind: EndKind
    choices: tuple[ChoiceEnd, ...] = ()
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What one step made of one job: token ids a choice, the events they led to, perhaps its end.

    `tokens` holds (choice, ids), also those whose text is held back. `admitted` is set in the
    report of the step in which the job's prefill began.
    """

    key: str
    tokens: tuple[tuple[int, tuple[int, ...]], ...] = ()
    events: tuple[Event, ...] = ()
    end: End | None = None
    admitted: bool = False


class StepStats(msgspec.Struct, frozen=True, kw_only=True):
    """One step in numbers, for metrics. Counts of rows are tokens; `draft_tokens` were computed
    beside `decode_rows`, and `accepted_tokens` of them were right."""

    step_ms: float = 0.0
    decode_rows: int = 0
    prefill_rows: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    running: int = 0
    waiting: int = 0
    cells_used: int = 0
    saved_bytes: int = 0
    cached_tokens: int = 0
    preempted: int = 0


class StepReport(msgspec.Struct, frozen=True, kw_only=True):
    """All of one step, delivered once, from the engine's thread."""

    outputs: tuple[Output, ...]
    stats: StepStats


Deliver = Callable[[StepReport], None]


class EngineDoor(Protocol):
    """What the rest of the worker may do with an engine. Every method may be called anywhere."""

    def submit(self, request: SequenceRequest) -> None:
        """Queue a job. An Output with its `end` comes, unless the engine dies of an error."""

    def cancel(self, key: str) -> None:
        """End a job within one step, in prefill too; unknown keys are nothing."""

    def close(self) -> None:
        """Stop the thread; live jobs end as `preempted`. Returns when it has stopped."""

    @property
    def dead(self) -> bool:
        """Whether the device is beyond use: its process should exit."""

    @property
    def stalled_s(self) -> float:
        """How long the step now running has taken; 0 between steps."""
