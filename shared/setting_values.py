"""What the values of some settings are made of."""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated setting."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def split_paths(given: str) -> tuple[str, str]:
    """`MODEL.gguf+PROJECTOR` as its two paths, the second empty where there is none."""
    at = given.lower().find(".gguf+")
    return (given[: at + 5], given[at + 6 :]) if at >= 0 else (given, "")
