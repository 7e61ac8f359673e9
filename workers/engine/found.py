"""What is there of a prompt already."""

from __future__ import annotations

import msgspec

from workers.engine.host_cache import Entry


class Found(msgspec.Struct, frozen=True):
    """The longest shared prefix: `length` computed tokens in slot `source` (-1: none) or `saved`,
    and `coming`, what slot `holder` will have computed when its prefill is done."""

    source: int = -1
    length: int = 0
    holder: int = -1
    coming: int = 0
    saved: Entry | None = None
