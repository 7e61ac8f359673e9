"""How keys and values are stored in KV cells, and which choices go together. Pure."""

from __future__ import annotations

from typing import Literal

CacheType = Literal["f16", "bf16", "q8_0", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]

QUANTISED: frozenset[CacheType] = frozenset({"q8_0", "q4_0"})


def fault(values: CacheType, flash_attention: FlashAttention) -> str:
    """Why values cannot be stored so with this flash attention; empty if they can."""
    if values in QUANTISED and flash_attention == "off":
        return f"values that are stored as {values} need flash attention"
    return ""
