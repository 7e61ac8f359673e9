"""Ways to cut a text, and what a reader makes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from workers.text.reader import Piece, Reader

Meaning = tuple[str, str]


def every_cut(text: str) -> Iterator[list[str]]:
    """The text in one piece, in two at every place, in three at some, and letter by letter."""
    yield [text]
    yield list(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]
    for at in range(1, len(text) - 3):
        yield [text[:at], text[at : at + 3], text[at + 3 :]]


def meaning(reader: Reader, pieces: Sequence[str]) -> list[Meaning]:
    """What a reader understood, its cuts joined; checks that ends never go back."""
    found: list[Piece] = []
    end = 0
    for piece in pieces:
        end += len(piece)
        found.extend(reader.feed(piece, end))
        assert all(one.end <= end for one in found)
    found.extend(reader.flush(end))
    ends = [one.end for one in found]
    assert ends == sorted(ends)
    return joined(found)


def joined(found: Sequence[Piece]) -> list[Meaning]:
    """Pieces with neighbours of one kind joined, markup left out, calls with their arguments."""
    out: list[Meaning] = []
    for piece in found:
        kind, text = piece.kind, piece.text
        if kind == "markup":
            continue
        if out and out[-1][0] == kind and kind in ("text", "reasoning", "arguments"):
            out[-1] = (kind, out[-1][1] + text)
        else:
            out.append((kind, text))
    return out


def same_at_every_cut(make: Callable[[], Reader], text: str) -> list[Meaning]:
    """The one meaning all cuts agree on."""
    first = meaning(make(), [text])
    for pieces in every_cut(text):
        assert meaning(make(), pieces) == first, pieces
    return first
