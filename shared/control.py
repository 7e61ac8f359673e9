"""Orders to workers, broadcast on the control channel."""

from __future__ import annotations

import msgspec


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Stop this job at once: its client has left or said so."""

    job: str


class Unload(msgspec.Struct, frozen=True, kw_only=True, tag="unload"):
    """Drop this model when idle."""

    model: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """Stop claiming, finish or hand back, exit."""

    worker: str


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag="delete"):
    """Drop this model and remove its files from the store."""

    model: str


class Configured(msgspec.Struct, frozen=True, kw_only=True, tag="configured"):
    """This model's configuration has changed: read it again."""

    model: str


Control = Cancel | Unload | Drain | Delete | Configured
