"""What Docker Model Runner's clients send to the routes about models, strictly decoded."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api.dialects.dmr.types import Wire


class Create(Wire, frozen=True, kw_only=True):
    """POST /models/create: pull. `from` is a name, `hf.co/…`, `file:…` or `https://…#sha256:…`."""

    source: Annotated[str, Meta(max_length=4096)] = msgspec.field(name="from", default="")
    bearer_token: str | None = msgspec.field(name="bearer-token", default=None)
    memory_check: bool | None = msgspec.field(name="ignore-runtime-memory-check", default=None)


class Push(Wire, frozen=True, kw_only=True):
    """POST /models/{name}/push. The body may be left away."""

    bearer_token: str | None = msgspec.field(name="bearer-token", default=None)


class Repackage(Wire, frozen=True, kw_only=True):
    """POST /models/{name}/repackage: the same weights under another name; context in tokens."""

    target: str = ""
    context_size: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
