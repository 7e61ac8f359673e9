"""What Ollama's routes answer, as Structs. Times are RFC 3339, durations nanoseconds."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

DoneReason = Literal["stop", "length", "load", "unload"]


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A call's function; `arguments` is an object here, not text."""

    index: int
    name: str
    arguments: dict[str, Any]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call for the caller to make."""

    id: str
    function: CalledFunction


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer, or a piece of one."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: tuple[Call, ...] = ()


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A token that could have been."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The token that was chosen."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: tuple[Alternative, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a stream, or all of an answer; the last line has the counts.

    `load_duration` is the wait for a worker and for its model.
    """

    model: str
    created_at: str
    done: bool
    done_reason: DoneReason | None = None
    logprobs: tuple[Logprob, ...] = ()
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class ChatLine(Line, frozen=True, kw_only=True, omit_defaults=True):
    """Of /api/chat."""

    message: Message


class GenerateLine(Line, frozen=True, kw_only=True, omit_defaults=True):
    """Of /api/generate. `context` has the conversation so far, for the next request."""

    response: str
    thinking: str = ""
    context: tuple[int, ...] = ()


class Error(msgspec.Struct, frozen=True, kw_only=True):
    """Any error, and the last line of a stream that failed."""

    error: str


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/embed."""

    model: str
    embeddings: tuple[tuple[float, ...], ...]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/embeddings."""

    embedding: tuple[float, ...]


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/version."""

    version: str


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of model."""

    parent_model: str = ""
    format: str = "gguf"
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A model there is."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/tags."""

    models: tuple[Listed, ...]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is loaded; `size_vram` is the part on a GPU."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class Processes(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/ps."""

    models: tuple[Running, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a pull, push or create; bytes of the layer `digest`."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Of /api/show."""

    license: str
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: tuple[str, ...]
    modified_at: str
