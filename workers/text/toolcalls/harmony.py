"""gpt-oss's harmony: messages on channels, for reasoning (analysis), text (final) and calls.

<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>
<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{…}<|call|>
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.text.reader import Kind, Piece
from workers.text.stops import first_found, longest_overlap

MESSAGE = "<|message|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
MARKERS = (
    "<|start|>",
    "<|channel|>",
    "<|constrain|>",
    MESSAGE,
    "<|end|>",
    "<|call|>",
    "<|return|>",
)
CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.:/-]+)")


class HarmonyReader:
    """Reads a whole answer; there is nothing else in such models' text."""

    def __init__(self) -> None:
        self._held = ""
        self._header = True
        self._kind: Kind = "text"
        self._said = False

    @property
    def thinking(self) -> bool:
        """Whether the channel now is analysis."""
        return not self._header and self._kind == "reasoning"

    def feed(self, text: str, end: int) -> Sequence[Piece]:
        """Pieces; see workers.text.reader."""
        self._held += text
        pieces: list[Piece] = []
        while self._read_header(pieces, end) if self._header else self._read_body(pieces, end):
            pass
        return pieces

    def flush(self, end: int) -> Sequence[Piece]:
        """What is held back. A header without a message says nothing."""
        pieces: list[Piece] = []
        if not self._header:
            self._put(pieces, self._held, end)
            self._close(pieces, end)
        elif not self._said and not self._held.startswith("<|"):
            pieces = [Piece("text", self._held, end)] if self._held.strip() else []
        self._held = ""
        return pieces

    def _read_header(self, pieces: list[Piece], end: int) -> bool:
        """Up to <|message|>. An answer that begins without any marker is text."""
        hit = first_found(self._held, (MESSAGE,))
        if hit is None:
            text = self._held.lstrip()
            plain = bool(text) and not self._said and not _marker_like(text)
            if plain:
                self._header, self._kind = False, "text"
            return plain
        header, self._held = self._held[: hit[0]], self._held[hit[0] + len(MESSAGE) :]
        here = end - len(self._held)
        self._begin(pieces, header, here)
        self._header, self._said = False, True
        return True

    def _begin(self, pieces: list[Piece], header: str, here: int) -> None:
        recipient = RECIPIENT.search(header)
        channel = CHANNEL.search(header)
        if recipient and recipient[1] != "assistant":
            self._kind = "arguments"
            pieces.append(Piece("call", recipient[1], here))
            return
        self._kind = "reasoning" if channel and channel[1] == "analysis" else "text"
        pieces.append(Piece("markup", "", here))

    def _read_body(self, pieces: list[Piece], end: int) -> bool:
        hit = first_found(self._held, ENDS)
        if hit is None:
            known = len(self._held) - longest_overlap(self._held, ENDS)
            self._put(pieces, self._held[:known], end - len(self._held) + known)
            self._held = self._held[known:]
            return False
        here = end - len(self._held) + hit[0]
        self._put(pieces, self._held[: hit[0]], here)
        self._close(pieces, here)
        self._held = self._held[hit[0] :]
        self._header, self._said = True, True
        return True

    def _put(self, pieces: list[Piece], text: str, end: int) -> None:
        if text:
            pieces.append(Piece(self._kind, text, end))

    def _close(self, pieces: list[Piece], end: int) -> None:
        if self._kind == "arguments":
            pieces.append(Piece("called", "", end))


def _marker_like(text: str) -> bool:
    """Whether `text` begins with a marker or may yet."""
    return any(text.startswith(marker) or marker.startswith(text) for marker in MARKERS) or bool(
        re.match(r"assistant\b|to=", text)
    )
