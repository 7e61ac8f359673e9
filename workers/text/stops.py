"""Stop strings, wherever the pieces break: holds back what may be the beginning of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def tail_overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that is a beginning of `marker`, but not all of it."""
    for length in range(min(len(text), len(marker) - 1), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0


def longest_overlap(text: str, markers: Iterable[str]) -> int:
    """The longest `tail_overlap` with any of `markers`."""
    return max((tail_overlap(text, marker) for marker in markers), default=0)


def first_found(text: str, markers: Iterable[str]) -> tuple[int, str] | None:
    """Where the marker that is complete first begins, and which; the longer of two ending there.

    By end and not by beginning, so that the answer does not depend on how the text was cut.
    """
    hits = [(at + len(marker), at, marker) for marker in markers if (at := text.find(marker)) >= 0]
    if not hits:
        return None
    _, at, marker = min(hits)
    return at, marker


class StopFilter:
    """Passes text until a stop string; `found` names it then."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.found: str | None = None

    @property
    def held(self) -> int:
        """Characters held back."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """The text that is certainly before any stop string."""
        if self.found is not None:
            return ""
        text = self._held + piece
        hit = first_found(text, self._stops)
        if hit:
            self._held, self.found = "", hit[1]
            return text[: hit[0]]
        cut = len(text) - longest_overlap(text, self._stops)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """What was held back and is no stop string after all."""
        held, self._held = self._held, ""
        return held
