"""Bytes that may end in the middle of a character, to text."""

from __future__ import annotations

import codecs

_decoder = codecs.getincrementaldecoder("utf-8")


class Utf8:
    """Feed bytes, get whole characters. What is no UTF-8 becomes U+FFFD, once a bad sequence."""

    def __init__(self) -> None:
        self._decoder = _decoder("replace")

    @property
    def pending(self) -> bool:
        """Whether the beginning of a character is held back."""
        return bool(self._decoder.getstate()[0])

    def feed(self, data: bytes) -> str:
        """The characters that are complete now."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """U+FFFD if a character was begun and never ended."""
        return self._decoder.decode(b"", final=True)
