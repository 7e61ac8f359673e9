"""What Docker Model Runner's clients send to the engine routes. Unknown members are refused."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Refused = Any


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is decoded strictly."""


class Unload(Wire, frozen=True, kw_only=True):
    """POST unload. Only idle models go; `all` also forgets every model's configuration."""

    all: bool | None = None
    backend: str | None = None
    models: list[str] | None = None


class Backend(Wire, frozen=True, kw_only=True):
    """POST install-backend and uninstall-backend."""

    backend: str | None = None
    version: str | None = None


class LlamaCpp(Wire, frozen=True, kw_only=True, rename="kebab"):
    """`reasoning-budget` in tokens: -1 no limit, 0 no reasoning."""

    reasoning_budget: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None


class Configure(Wire, frozen=True, kw_only=True, rename="kebab"):
    """POST _configure. `context-size` in tokens, -1 and 0: what the model was trained for;
    `keep_alive` is a duration of Go's; flags are llama-server's, as words or as one line."""

    model: str | None = None
    mode: str | None = None
    context_size: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    keep_alive: str | None = msgspec.field(name="keep_alive", default=None)
    runtime_flags: list[str] | None = None
    raw_runtime_flags: str | None = None
    llamacpp: LlamaCpp | None = None

    speculative: Refused = None
    vllm: Refused = None


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """The query of GET _configure: one model's, or all."""

    model: str | None = None


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """The query of GET requests; a client that listens may ask for what there was before."""

    model: str | None = None
    include_existing: bool = False
