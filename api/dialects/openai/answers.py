"""What OpenAI clients get: chat and completion objects and their chunks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shared.events import FinishReason


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base: what has its default is left out."""


class PromptDetails(Answer, frozen=True, kw_only=True, omit_defaults=False):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(Answer, frozen=True, kw_only=True, omit_defaults=False):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(Answer, frozen=True, kw_only=True, omit_defaults=False):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Timings(Answer, frozen=True, kw_only=True):
    """llama-server's names; `queue_ms` and `load_ms` are ours."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    queue_ms: float
    load_ms: float
    draft_n: int = 0
    draft_n_accepted: int = 0


class Alternative(Answer, frozen=True, kw_only=True, omit_defaults=False):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class TokenLogprob(Answer, frozen=True, kw_only=True, omit_defaults=False):
    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[Alternative, ...]


class Logprobs(Answer, frozen=True, kw_only=True):
    """`reasoning_content` is ours: the tokens of the reasoning, kept out of `content`."""

    content: tuple[TokenLogprob, ...] | None
    refusal: None
    reasoning_content: tuple[TokenLogprob, ...] = ()


class FunctionDelta(Answer, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str


class ToolCallDelta(Answer, frozen=True, kw_only=True):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class Delta(Answer, frozen=True, kw_only=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCallDelta, ...] = ()


class ChunkChoice(Answer, frozen=True, kw_only=True):
    index: int
    delta: Delta
    logprobs: Logprobs | None
    finish_reason: FinishReason | None


class Chunk(Answer, frozen=True, kw_only=True):
    """One `data:` of a chat stream; `usage` is null until the last one, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: Timings | None = None
    service_tier: str | None = None


class Function(Answer, frozen=True, kw_only=True, omit_defaults=False):
    name: str
    arguments: str


class ToolCall(Answer, frozen=True, kw_only=True, omit_defaults=False):
    id: str
    type: Literal["function"]
    function: Function


class Message(Answer, frozen=True, kw_only=True):
    role: str
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class Choice(Answer, frozen=True, kw_only=True):
    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: FinishReason


class ChatCompletion(Answer, frozen=True, kw_only=True):
    """A whole chat answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice, ...]
    usage: Usage
    timings: Timings
    service_tier: str | None = None


class TextLogprobs(Answer, frozen=True, kw_only=True, omit_defaults=False):
    """The old completions form: four lists of the same length."""

    tokens: tuple[str, ...]
    token_logprobs: tuple[float | None, ...]
    top_logprobs: tuple[dict[str, float], ...]
    text_offset: tuple[int, ...]


class TextChoice(Answer, frozen=True, kw_only=True):
    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Answer, frozen=True, kw_only=True):
    """A completion, whole or a chunk of it: OpenAI calls both the same."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[TextChoice, ...]
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: Timings | None = None
    service_tier: str | None = None


class ModelFacts(Answer, frozen=True, kw_only=True):
    """What is known of a model, as Docker Model Runner tells it."""

    context_window: int = 0
    architecture: str = ""
    parameters: str = ""
    quantization: str = ""
    size: str = ""


class Model(Answer, frozen=True, kw_only=True):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    dmr: ModelFacts | None = None


class ModelList(Answer, frozen=True, kw_only=True, omit_defaults=False):
    object: Literal["list"]
    data: tuple[Model, ...]


class Vector(Answer, frozen=True, kw_only=True):
    object: Literal["embedding"]
    index: int
    embedding: tuple[float, ...] | str


class VectorUsage(Answer, frozen=True, kw_only=True, omit_defaults=False):
    prompt_tokens: int
    total_tokens: int


class VectorList(Answer, frozen=True, kw_only=True, omit_defaults=False):
    object: Literal["list"]
    model: str
    data: tuple[Vector, ...]
    usage: VectorUsage


class Ranked(Answer, frozen=True, kw_only=True):
    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class Ranking(Answer, frozen=True, kw_only=True, omit_defaults=False):
    id: str
    object: Literal["list"]
    model: str
    results: tuple[Ranked, ...]
    usage: VectorUsage
