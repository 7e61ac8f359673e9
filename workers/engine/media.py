"""Images and sounds in a prompt: rows of embeddings where text has token ids. Pure.

In a sequence each such row has a placeholder, a negative id that stands for the content: equal
images have equal ids, so cached prefixes are shared by them and by nobody else. Where a model has
positions of several axes, an image takes fewer positions than rows, and what follows it lags.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

SHIFTED_AXES = 3  # of four; the last one counts from nothing

Floats = NDArray[np.float32]
Places = NDArray[np.int32]


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """One run of embeddings. `rows` [n, width], `places` [axes, n] counted from its first position,
    of which it takes `span`. `whole`: its rows see each other, so one decode must hold them all."""

    ids: tuple[int, ...]
    rows: Floats
    places: Places
    span: int
    whole: bool = False


class Rows(msgspec.Struct, frozen=True):
    """What a chunk computes in place of tokens: `numbers` [n, width] at `positions` [axes, n]."""

    numbers: Floats
    positions: Places
    whole: bool


class Layout:
    """Where in a prompt the runs of `media`, in their order, stand. ValueError if they do not."""

    @classmethod
    def of(cls, prompt: Sequence[int], media: Sequence[Media]) -> Layout:
        """Of a prompt that `fault` found nothing wrong with."""
        return cls(prompt, media) if media else TEXT_ONLY

    def __init__(self, prompt: Sequence[int] = (), media: Sequence[Media] = ()) -> None:
        self._media = media
        self._starts: list[int] = []
        self._lags = [0]
        at = 0
        for one in media:
            at = next((n for n in range(at, len(prompt)) if prompt[n] < 0), len(prompt))
            if tuple(prompt[at : at + len(one.ids)]) != one.ids or not one.ids:
                raise ValueError("the prompt has no place for its media")
            self._starts.append(at)
            at += len(one.ids)
            self._lags.append(self._lags[-1] + len(one.ids) - one.span)
        if any(token < 0 for token in prompt[at:]):
            raise ValueError("a placeholder without media")

    @property
    def rows(self) -> int:
        """Of all runs together."""
        return sum(len(one.ids) for one in self._media)

    def lag(self, at: int) -> int:
        """By how much the position of the row at `at` is less than its index. Inside a run: that
        of the run's first."""
        number = self._before(at)
        return self._lags[number - 1 if self._inside(at) else number]

    def snapped(self, length: int) -> int:
        """At most `length` rows, not ending inside a run that takes fewer positions than rows:
        by its positions such a run cannot be cut."""
        number = self._before(length) - 1
        if number < 0 or not self._inside(length) or length == self._starts[number]:
            return length
        one = self._media[number]
        return length if one.span == len(one.ids) else self._starts[number]

    def stretch(self, start: int, count: int, *, most: int = 0) -> int:
        """How many of the next `count` rows can be computed together: text, or of one run. A run
        that is whole comes whole or not at all: within `count`, or within `most`."""
        if not self._inside(start):
            number = self._before(start)
            until = self._starts[number] if number < len(self._starts) else start + count
            return min(count, until - start)
        one = self._media[self._before(start) - 1]
        left = self._starts[self._before(start) - 1] + len(one.ids) - start
        if one.whole and count < left:
            return left if left <= most else 0
        return min(count, left)

    def embedded(self, start: int, count: int) -> Rows | None:
        """The rows of a stretch; None for text."""
        if not self._inside(start):
            return None
        number = self._before(start) - 1
        one, begin = self._media[number], self._starts[number]
        part = slice(start - begin, start - begin + count)
        positions = one.places[:, part].copy()
        positions[:SHIFTED_AXES] += begin - self._lags[number]
        return Rows(one.rows[part], positions, one.whole)

    def _before(self, at: int) -> int:
        """How many runs begin at or before `at`."""
        return bisect_right(self._starts, at)

    def _inside(self, at: int) -> bool:
        number = self._before(at) - 1
        return number >= 0 and at < self._starts[number] + len(self._media[number].ids)


TEXT_ONLY = Layout()


def fault(prompt: Sequence[int], media: Sequence[Media], *, width: int, batch_rows: int) -> str:
    """Why a prompt with media cannot be computed; empty if it can."""
    if not media:
        return ""
    try:
        Layout(prompt, media)
    except ValueError as error:
        return str(error)
    if prompt[-1] < 0:
        return "a prompt that ends in an image"
    if any(one.rows.shape != (len(one.ids), width) for one in media):
        return "embeddings of another model"
    if any(one.whole and len(one.ids) > batch_rows for one in media):
        return "an image that is larger than a batch"
    return ""
