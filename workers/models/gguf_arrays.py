"""Arrays in a GGUF header: walked within bounds, and not kept."""

from __future__ import annotations

import struct

from workers.models.gguf_reader import BadModelFile, HeaderReader
from workers.models.gguf_tables import ARRAY, SCALARS, STRING

MAX_STRINGS = 8_388_608
MAX_VOCABULARY = 1 << 20
MAX_DEPTH = 4
MAX_LAYERS = 4096
MAX_SHOWN = 64
INTEGERS = "bBhHiIqQ"


def array(reader: HeaderReader) -> int | tuple[int, ...]:
    """A short array of integers (one a layer); of another its length."""
    kind, count = reader.number("<I"), reader.number("<Q")
    form = SCALARS.get(kind, "")
    if form[-1:] in INTEGERS and form and count <= MAX_LAYERS:
        return tuple(reader.number(form) for _ in range(count))
    return _skip(reader, kind, count, depth=1)


def vocabulary(reader: HeaderReader) -> int:
    """How many tokens there are. No two may be alike, but for empty ones: such a file would end
    the process that loads it, by an assertion of the library."""
    kind, count = reader.number("<I"), reader.number("<Q")
    if kind != STRING:
        return _skip(reader, kind, count, depth=1)
    if count > min(MAX_VOCABULARY, reader.left // 8):
        raise BadModelFile(f"the header claims a vocabulary of {count} tokens")
    known: set[bytes] = set()
    for _ in range(count):
        token = reader.bytes()
        if token in known:
            text = token[:MAX_SHOWN].decode(errors="replace")
            raise BadModelFile(f"the vocabulary has the token {text!r} twice")
        if token:
            known.add(token)
    return int(count)


def _skip(reader: HeaderReader, kind: int, count: int, *, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise BadModelFile("the header has arrays nested too deep")
    if kind in SCALARS:
        reader.skip(struct.calcsize(SCALARS[kind]) * count)
    elif kind not in (STRING, ARRAY):
        raise BadModelFile(f"the header has an array of unknown type {kind}")
    elif count > min(MAX_STRINGS, reader.left // 8):
        raise BadModelFile(f"the header claims an array of {count} entries")
    else:
        for _ in range(count):
            if kind == STRING:
                reader.skip_string()
            else:
                inner, length = reader.number("<I"), reader.number("<Q")
                _skip(reader, inner, length, depth=depth + 1)
    return int(count)
