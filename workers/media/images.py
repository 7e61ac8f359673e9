"""Whether bytes from a stranger are an image that may be decoded: before a decoder in C sees them.

PNG and JPEG only. A small file may stand for a large image, or for endless work: its size comes
from its header, what a PNG unpacks to is counted, and so are a JPEG's passes over the image.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from shared.errors import RequestError

MAX_PIXELS = 1 << 24  # 4096 x 4096
MAX_RATIO = 100  # of the longer side to the shorter
MAX_CHUNKS = 20_000
MAX_SEGMENTS = 1000
MAX_SCANS = 100  # passes of a progressive JPEG
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by a PNG's colour type
INFLATED_AT_ONCE = 1 << 20
FRAMES = {0xC0, 0xC1, 0xC2}  # the JPEG frame headers that decoders of today read
ALL_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # but those that have no length
SCAN, END = 0xDA, 0xD9


def check(data: bytes) -> None:
    """Raises RequestError for what is no image, is damaged or is too large."""
    if data.startswith(PNG):
        _check_png(data)
    elif data.startswith(JPEG):
        _check_jpeg(data)
    else:
        raise _refused("is not a PNG or JPEG file")


def _refused(why: str) -> RequestError:
    return RequestError(f"messages: an image {why}", param="messages")


def _check_size(width: int, height: int) -> None:
    if not width or not height:
        raise _refused("has no size")
    if width * height > MAX_PIXELS:
        raise _refused(f"of {width} x {height} is over the limit of {MAX_PIXELS} pixels")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise _refused(f"of {width} x {height} is too long a strip")


def _check_png(data: bytes) -> None:
    chunks = _png_chunks(data)
    name, head = next(chunks, (b"", b""))
    if name != b"IHDR" or len(head) != 13:
        raise _refused("is a damaged PNG")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    _check_size(width, height)
    bits = depth * CHANNELS.get(colour, 0)
    if depth not in (1, 2, 4, 8, 16) or not bits:
        raise _refused("is a PNG of an unknown kind")
    rows = height * 2 + 16 if interlaced else height  # seven passes: each row in two at most
    most = rows + (width * height * bits + 7 * rows) // 8
    inflate = zlib.decompressobj()
    for name, body in chunks:
        if name == b"IHDR":
            raise _refused("is a damaged PNG")
        if name == b"IDAT":
            most -= _inflated(inflate, body, most)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, body) up to IEND."""
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            break
        yield name, data[at + 8 : at + 8 + length]
        if name == b"IEND":
            return
        at += 12 + length
    raise _refused("is a PNG that was cut short")


def _inflated(inflate: zlib._Decompress, body: bytes, most: int) -> int:
    """How many bytes a part unpacks to."""
    total = 0
    try:
        while body and not inflate.eof:
            total += len(inflate.decompress(body, INFLATED_AT_ONCE))
            body = inflate.unconsumed_tail
            if total > most:
                raise _refused("is a PNG that holds more than its size says")
    except zlib.error as error:
        raise _refused("is a damaged PNG") from error
    return total


def _check_jpeg(data: bytes) -> None:
    if data.count(bytes((0xFF, SCAN))) > MAX_SCANS:
        raise _refused(f"is a JPEG of more than {MAX_SCANS} passes")
    sized = False
    for marker, body in _jpeg_segments(data):
        if marker in ALL_FRAMES:
            if marker not in FRAMES or len(body) < 5:
                raise _refused("is a JPEG of an unknown kind")
            height, width = struct.unpack_from(">HH", body, 1)
            _check_size(width, height)
            sized = True
    if not sized:
        raise _refused("is a damaged JPEG")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, body) everywhere in the file, whatever stands between: a decoder that stumbles may
    go on at any marker, so every frame header counts."""
    at = len(JPEG)
    for _ in range(MAX_SEGMENTS):
        if (found := MARKER.search(data, at)) is None:
            return
        at, marker = found.end(), data[found.start() + 1]
        if marker not in (SCAN, END):
            length = int.from_bytes(data[at : at + 2], "big")
            yield marker, data[at + 2 : at + length]
            at += max(2, length)
    raise _refused(f"is a JPEG of more than {MAX_SEGMENTS} segments")
