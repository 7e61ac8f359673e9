"""What a worker is asked: the canonical requests every dialect is translated into.

A field here is honoured by the engine or refused before it gets here; none is ignored.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shared.messages import Message, Tool
from shared.storing import StoreTask

Lane = Literal["interactive", "batch"]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is drawn. Defaults are llama-server's; 0 or 1 switches a stage off.

    Random numbers are a function of (seed, position), so a stream can go on elsewhere.
    """

    temperature: float = 0.8
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: Literal[0, 1, 2] = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A LoRA adapter of the model, by its name or its place in the model's list, and how strongly
    it is applied: 0 = not at all."""

    name: str | int
    scale: float = 1.0


class JsonObject(msgspec.Struct, frozen=True, kw_only=True, tag="json_object"):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, frozen=True, kw_only=True, tag="json_schema"):
    """JSON that validates against `schema`."""

    schema: dict[str, Any] | bool


class Regex(msgspec.Struct, frozen=True, kw_only=True, tag="regex"):
    """Text that matches `pattern` as a whole."""

    pattern: str


class Grammar(msgspec.Struct, frozen=True, kw_only=True, tag="grammar"):
    """Text in the language of a grammar, `lark` (llguidance's dialect) or `gbnf` (llama.cpp's)."""

    text: str
    syntax: Literal["lark", "gbnf"] = "lark"


Constraint = JsonObject | JsonSchema | Regex | Grammar


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether tools may, must or must not be called; `name` with mode `named`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """Reasoning: on, off or the model's default (None); `budget` in tokens, None = no limit."""

    enabled: bool | None = None
    budget: int | None = None
    effort: Literal["minimal", "low", "medium", "high"] | None = None


class Chat(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation, to be rendered by the model's chat template."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    thinking: Thinking = Thinking()
    template_options: dict[str, Any] = {}
    continue_final: bool = False


class Prompt(msgspec.Struct, frozen=True, kw_only=True, tag="prompt"):
    """A raw prompt: text or token ids; `suffix` asks for fill-in-the-middle."""

    text: str | None = None
    tokens: tuple[int, ...] | None = None
    suffix: str | None = None
    echo: bool = False


class Generate(msgspec.Struct, frozen=True, kw_only=True, tag="generate"):
    """Text, please. `max_tokens` None means: until the model stops or the context is full.

    `logprobs`: None = none, else how many alternatives (0-20) beside the chosen token.
    """

    id: str
    model: str
    input: Chat | Prompt
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    choices: int = 1
    logprobs: int | None = None
    constraint: Constraint | None = None
    adapters: tuple[Adapter, ...] = ()
    keep_alive_s: float | None = None
    lane: Lane = "interactive"
    tenant: str = "open"


class Embed(msgspec.Struct, frozen=True, kw_only=True, tag="embed"):
    """One vector for each input (text or token ids), cut to `dimensions` and L2-normalised."""

    id: str
    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    normalize: bool = True
    truncate: bool = False
    keep_alive_s: float | None = None
    lane: Lane = "interactive"
    tenant: str = "open"


class Rerank(msgspec.Struct, frozen=True, kw_only=True, tag="rerank"):
    """One relevance score for each document."""

    id: str
    model: str
    query: str
    documents: tuple[str, ...]
    lane: Lane = "interactive"
    tenant: str = "open"


class Tokenize(msgspec.Struct, frozen=True, kw_only=True, tag="tokenize"):
    """Token ids of a text, or of a conversation as the model's template renders it.

    Of an empty text: the way to have a model loaded, and kept for `keep_alive_s`.
    """

    id: str
    model: str
    input: Chat | Prompt
    add_special: bool = True
    parse_special: bool = True
    keep_alive_s: float | None = None
    lane: Lane = "interactive"
    tenant: str = "open"


class Detokenize(msgspec.Struct, frozen=True, kw_only=True, tag="detokenize"):
    """The text of token ids."""

    id: str
    model: str
    tokens: tuple[int, ...]
    lane: Lane = "interactive"
    tenant: str = "open"


Request = Generate | Embed | Rerank | Tokenize | Detokenize | StoreTask
