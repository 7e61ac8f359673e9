"""Durations as Go writes them, which Ollama's and Docker's clients send as `keep_alive`."""

from __future__ import annotations

import re

from shared.errors import RequestError

FOREVER_S = -1.0
UNIT_S = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|us|µs|μs|ns|m|s)")
BARE = re.compile(r"\d+(\.\d+)?")


def keep_alive_s(given: str | float | None) -> float | None:
    """Seconds, FOREVER_S for anything negative. Strings are durations, or a number of seconds.
    Raises RequestError."""
    if given is None:
        return None
    seconds = _seconds(given) if isinstance(given, str) else given
    return seconds if seconds >= 0 else FOREVER_S


def written(seconds: float) -> str:
    """As Go writes it: `5m0s`, `1h30m0s`, `30s`; `-1` for ever."""
    if seconds < 0:
        return "-1"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{rest:g}s"


def _seconds(text: str) -> float:
    """Of `1h30m`, `300ms`, `-1m`, `0`."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if BARE.fullmatch(rest):
        return sign * float(rest)
    if not rest or DURATION.sub("", rest):
        raise RequestError(f"keep_alive: {text!r} is no duration such as '5m'", param="keep_alive")
    return sign * sum(float(number) * UNIT_S[unit] for number, unit in DURATION.findall(rest))
