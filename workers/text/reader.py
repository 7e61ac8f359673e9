"""What the readers of a model's text have in common: text in, pieces with a meaning out.

`end` counts characters of the model's raw text: a piece's `end` is where in it the piece ends, so
that logprobs find the delta they belong to even if text was held back or markup left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

Kind = Literal["text", "reasoning", "call", "arguments", "called", "markup"]


class Piece(msgspec.Struct, frozen=True):
    """A bit of meaning. `call` begins a tool call (`text` is its name), `called` ends it.

    `markup` has no text: its tokens meant something to the reader and nothing to a client.
    """

    kind: Kind
    text: str
    end: int


class Reader(Protocol):
    """Splits one choice's text. Gives the same pieces, but for their cuts, however it is fed."""

    def feed(self, text: str, end: int) -> Sequence[Piece]:
        """Pieces of more text; `end` is the raw text's length with it."""

    def flush(self, end: int) -> Sequence[Piece]:
        """What is still held back."""

    @property
    def thinking(self) -> bool:
        """Whether the text now is reasoning."""


class PlainReader:
    """All is text."""

    thinking = False

    def feed(self, text: str, end: int) -> Sequence[Piece]:
        """The text."""
        return (Piece("text", text, end),)

    def flush(self, end: int) -> Sequence[Piece]:
        """Nothing is ever held back."""
        return ()
