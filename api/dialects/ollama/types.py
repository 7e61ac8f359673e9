"""Ollama's requests on the wire.

Unknown members are refused by name. A member typed `Refused` is known and not honoured: parse.py
answers it by name. docs/dialects.md says of each member what it does; a test compares.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.body import TOKEN_KEYS, Refused

KeepAlive = float | str
Positive = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Window = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Anything read; nothing unknown passes."""


class Options(Wire, frozen=True, kw_only=True):
    """How to sample, and how Ollama would load the model. Absent: Caravan's defaults."""

    temperature: Positive | None = None
    dynatemp_range: Positive | None = None
    dynatemp_exponent: Positive | None = None
    top_k: Int32 | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    top_n_sigma: float | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    dry_multiplier: Positive | None = None
    dry_base: Positive | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: Window | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: Positive | None = None
    mirostat_eta: Positive | None = None
    repeat_last_n: Window | None = None
    repeat_penalty: Positive | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Annotated[dict[Count, float], TOKEN_KEYS] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None

    num_predict: Int32 | None = None
    stop: str | tuple[str, ...] | None = None

    tfs_z: float | None = None
    penalize_newline: bool | None = None
    vocab_only: bool | None = None
    logits_all: bool | None = None
    embedding_only: bool | None = None

    num_keep: int | None = None
    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    num_thread: int | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    numa: bool | None = None


class Named(Wire, frozen=True, kw_only=True):
    """Every body names its model; `name` is the older word and wins."""

    model: str = ""
    name: str = ""


class CallFunction(Wire, frozen=True, kw_only=True):
    """Which function was called with what."""

    name: str
    arguments: dict[str, Any] = {}
    index: int | None = None
    description: str | None = None


class Call(Wire, frozen=True, kw_only=True):
    """A call the model made in an earlier turn."""

    function: CallFunction
    id: str | None = None
    type: Literal["function"] | None = None


class Message(Wire, frozen=True, kw_only=True):
    """One turn. `images` are base64, or data URIs."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: tuple[str, ...] | None = None
    tool_calls: tuple[Call, ...] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    name: str | None = None


class Function(Wire, frozen=True, kw_only=True):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire, frozen=True, kw_only=True):
    """A function the model may call."""

    function: Function
    type: Literal["function"] | None = None
    items: Refused = None


class Generation(Named, frozen=True, kw_only=True):
    """What chat and generate share."""

    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None
    think: bool | Literal["", "low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    truncate: bool | None = None
    shift: bool | None = None


class Chat(Generation, frozen=True, kw_only=True):
    """POST /api/chat."""

    messages: tuple[Message, ...] | None = None
    tools: tuple[Tool, ...] | None = None


class Generate(Generation, frozen=True, kw_only=True):
    """POST /api/generate."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None
    images: tuple[str, ...] | None = None
    context: tuple[int, ...] | None = None
    template: Refused = None
    width: Refused = None
    height: Refused = None
    steps: Refused = None


class Embed(Named, frozen=True, kw_only=True):
    """POST /api/embed."""

    input: str | tuple[str, ...] | None = None
    truncate: bool | None = None
    dimensions: Count | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None


class Embeddings(Named, frozen=True, kw_only=True):
    """POST /api/embeddings, the older route: one text, one vector as the model gives it."""

    prompt: str | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None


class Show(Named, frozen=True, kw_only=True):
    """POST /api/show."""

    verbose: bool | None = None
    system: Refused = None
    template: Refused = None
    options: Refused = None


class Transfer(Named, frozen=True, kw_only=True):
    """What pull and push share."""

    stream: bool | None = None
    insecure: bool | None = None
    username: Refused = None
    password: Refused = None


class Pull(Transfer, frozen=True, kw_only=True):
    """POST /api/pull."""


class Push(Transfer, frozen=True, kw_only=True):
    """POST /api/push."""


class Parameters(Wire, frozen=True, kw_only=True):
    """What a model is made with: the longest context, in tokens."""

    num_ctx: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None


class Create(Named, frozen=True, kw_only=True):
    """POST /api/create. `files` are names to digests of uploads; a template is Jinja."""

    source: str | None = msgspec.field(name="from", default=None)
    files: dict[str, str] | None = None
    template: str | None = None
    license: str | tuple[str, ...] | None = None
    parameters: Parameters | None = None
    stream: bool | None = None
    system: Refused = None
    messages: Refused = None
    adapters: Refused = None
    quantize: Refused = None
    quantization: Refused = None
    modelfile: Refused = None
    path: Refused = None


class Copy(Wire, frozen=True, kw_only=True):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""


class Delete(Named, frozen=True, kw_only=True):
    """DELETE /api/delete."""
