"""Reasoning between tags at the beginning of an answer; the rest goes to the next reader.

Tags count only before the answer's first word: a model may well write about `<think>` later.
Whitespace around tags belongs to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from workers.text.reader import Piece, Reader
from workers.text.stops import tail_overlap


class ThinkReader:
    """`opened`: the prompt ends inside the tag, so the model begins by thinking."""

    def __init__(self, opening: str, closing: str, *, opened: bool, rest: Reader) -> None:
        self._opening = opening
        self._closing = closing
        self._opened = opened
        self._rest = rest
        self._state: Literal["before", "thinking", "gap", "answer"] = "before"
        self._held = ""
        self._said = False

    @property
    def thinking(self) -> bool:
        """Whether reasoning has begun and not ended."""
        return self._state == "thinking" or (self._state == "before" and self._opened)

    def feed(self, text: str, end: int) -> Sequence[Piece]:
        """Pieces; see Reader."""
        self._held += text
        pieces: list[Piece] = []
        if self._state == "before":
            self._open(pieces, end)
        if self._state == "thinking":
            self._think(pieces, end)
        if self._state == "gap":
            self._skip(pieces, end)
        if self._state == "answer" and self._held:
            held, self._held = self._held, ""
            pieces.extend(self._rest.feed(held, end))
        return pieces

    def flush(self, end: int) -> Sequence[Piece]:
        """What was held back, as what it turned out to be."""
        held, self._held = self._held, ""
        pieces: list[Piece] = []
        if self.thinking:
            pieces = [Piece("reasoning", held.rstrip(), end)] if held.strip() else []
        elif self._state == "before" and held:
            pieces = list(self._rest.feed(held, end))
        return [*pieces, *self._rest.flush(end)]

    def _open(self, pieces: list[Piece], end: int) -> None:
        """Is there a tag? Not known while there is only whitespace or half a tag."""
        text = self._held.lstrip()
        if text.startswith(self._opening):
            self._held, self._state = text[len(self._opening) :], "thinking"
            pieces.append(Piece("markup", "", end - len(self._held)))
        elif self._opening.startswith(text):
            return
        elif self._opened:
            self._state = "thinking"
        else:
            self._state = "answer"

    def _think(self, pieces: list[Piece], end: int) -> None:
        """Reasoning up to the closing tag, without whitespace at either end."""
        text = self._held if self._said else self._held.lstrip()
        at = text.find(self._closing)
        known = at if at >= 0 else len(text) - tail_overlap(text, self._closing)
        said = text[:known].rstrip()
        if said:
            self._said = True
            pieces.append(Piece("reasoning", said, end - len(text) + len(said)))
        if at >= 0:
            self._held, self._state = text[at + len(self._closing) :], "gap"
        else:
            self._held = text[len(said) :]

    def _skip(self, pieces: list[Piece], end: int) -> None:
        """The closing tag and whitespace after it."""
        self._held = self._held.lstrip()
        pieces.append(Piece("markup", "", end - len(self._held)))
        if self._held:
            self._state = "answer"
