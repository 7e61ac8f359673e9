"""What a job says while it runs. A stream is numbered events from 1; Finished or Failed is last.

A new event is a new class here and in `Event`; `match` with `assert_never` finds who must learn it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
Stage = Literal["loading", "prefill", "pull", "push"]


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One alternative at one place: its bytes and the natural logarithm of its probability."""

    token: bytes
    logprob: float
    id: int = -1


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """The chosen token and its alternatives, most likely first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A worker has the job and has counted its prompt."""

    prompt_tokens: int
    worker: str = ""
    fingerprint: str = ""


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag="text", omit_defaults=True):
    """More of the answer's text. `choice` counts from 0."""

    text: str
    choice: int = 0
    logprobs: tuple[Logprob, ...] = ()


class ReasoningDelta(
    msgspec.Struct, frozen=True, kw_only=True, tag="reasoning", omit_defaults=True
):
    """More of what the model thinks before it answers."""

    text: str
    choice: int = 0
    logprobs: tuple[Logprob, ...] = ()


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True, tag="tool", omit_defaults=True):
    """A tool call's beginning (`id` and `name` set) or more of its arguments (JSON text)."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    choice: int = 0
    logprobs: tuple[Logprob, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far something long is: `done` of `total` (tokens for prefill, else bytes).

    Where a `layer` is named, `done` is of its `size`, and `total` is of all layers.
    """

    stage: Stage
    done: int
    total: int
    detail: str = ""
    layer: str = ""
    size: int = 0


class Vectors(msgspec.Struct, frozen=True, kw_only=True, tag="vectors"):
    """Embeddings, float32 little-endian, one after the other, `width` numbers each."""

    data: bytes
    width: int


class Scores(msgspec.Struct, frozen=True, kw_only=True, tag="scores"):
    """Relevance of each document, in the order they were given."""

    scores: tuple[float, ...]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, tag="tokens"):
    """Answer to Tokenize (ids and each one's bytes) and Detokenize (text)."""

    ids: tuple[int, ...] = ()
    pieces: tuple[bytes, ...] = ()
    text: str = ""


class Stored(msgspec.Struct, frozen=True, kw_only=True, tag="stored", omit_defaults=True):
    """What a store task came to, as far as it applies: the model's name and ID, names and model
    that are gone, the config's size as text, a card (shared.presence.pack)."""

    ref: str = ""
    id: str = ""
    cached: bool = False
    size: str = ""
    untagged: tuple[str, ...] = ()
    deleted: str = ""
    card: bytes = b""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counted tokens, over all choices. `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


class Timings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the time went, in milliseconds; `queue_ms` by Redis' clock, the rest the worker's.

    `load_ms` is how long the job waited for its model's loading; it is not in `queue_ms`.
    """

    queue_ms: float = 0.0
    load_ms: float = 0.0
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


class ChoiceEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one choice ended; `stop` is the stop string found, if one was."""

    reason: FinishReason = "stop"
    stop: str | None = None


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The end of a stream that went well: one ChoiceEnd a choice (none for embeddings)."""

    choices: tuple[ChoiceEnd, ...] = ()
    usage: Usage = Usage()
    timings: Timings = Timings()


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The end of a stream that did not: `code` is one of shared.errors, `param` the field."""

    code: str
    message: str
    param: str | None = None


Event = (
    Started
    | TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | Progress
    | Vectors
    | Scores
    | Tokens
    | Stored
    | Finished
    | Failed
)


class TokenRun(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive token ids of one choice, int32 little-endian."""

    choice: int
    ids: bytes


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive events of one job with the tokens they came from: the unit of the journal.

    `number` is the first event's; the next frame's is `number + len(events)`. Tokens whose text is
    still held back travel too, so a successor can rebuild everything. New fields go last.
    """

    job: str
    number: int
    events: tuple[Event, ...]
    tokens: tuple[TokenRun, ...] = ()

    @property
    def next_number(self) -> int:
        """The number of the first event after this frame."""
        return self.number + len(self.events)

    @property
    def ended(self) -> bool:
        """Whether the stream ends with this frame."""
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed)
