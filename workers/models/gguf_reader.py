"""Little-endian values from a file that may lie about itself: bounded by its size and by ours."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from shared.errors import CaravanError

MAX_KEPT_BYTES = 32 << 20


class BadModelFile(CaravanError):
    """The file is no GGUF, is damaged or lies about its own size."""

    code = "bad_model_file"


class HeaderReader:
    """Reads an open file of `size` bytes; BadModelFile when it wants more than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._size = size
        self._kept = 0

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self._left

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._size - self._left

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        self._claim(count)
        got = self._file.read(count)
        if len(got) != count:
            raise BadModelFile("the model file ends in the middle of its header")
        return got

    def skip(self, count: int) -> None:
        """Pass over `count` bytes without holding them."""
        self._claim(count)
        self._file.seek(count, 1)

    def _claim(self, count: int) -> None:
        if count > self._left:
            raise BadModelFile(
                f"the model file is cut short: its header wants {count} more bytes, "
                f"{self._left} are left"
            )
        self._left -= count

    def number(self, form: str) -> Any:
        """One scalar of a struct format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self, *, limit: int = MAX_KEPT_BYTES) -> str:
        """One string, kept: counts against what a header may hold in memory."""
        return self.bytes(limit=limit).decode("utf-8", "replace")

    def bytes(self, *, limit: int = MAX_KEPT_BYTES) -> bytes:
        """One string as it is, kept as well."""
        length = self.number("<Q")
        self._kept += length
        if length > limit or self._kept > MAX_KEPT_BYTES:
            raise BadModelFile("the model file's header has more text than is sensible")
        return self.take(length)

    def skip_string(self) -> None:
        """One string, not kept."""
        length = self.number("<Q")
        if length < 4096:
            self.take(length)
        else:
            self.skip(length)
