"""Encodes images and sounds one after another, in a thread of its own and never in a step of the
engine; remembers what it made.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from workers.engine.media import Media
from workers.prompt.attachments import Attachment

MOST_BYTES = 128 << 20
MOST_MEASURED = 4096
NICE = 10


class Projects(Protocol):
    """What it needs of a projector.Projector."""

    def takes(self, part: Attachment) -> bool:
        """Whether such a part can be encoded."""

    def measure(self, part: Attachment) -> tuple[int, ...]:
        """Its tokens and placeholders. From any thread."""

    def encode(self, part: Attachment) -> tuple[Media, ...]:
        """Its embeddings. From one thread."""


class Encoder:
    """`thread` is where `media` is to be called."""

    def __init__(self, projector: Projects, *, most_bytes: int = MOST_BYTES) -> None:
        self.takes = projector.takes
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="encoder", initializer=_give_way)
        self._projector = projector
        self._most_bytes = most_bytes
        self._bytes = 0
        self._measured: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        self._encoded: OrderedDict[bytes, tuple[Media, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def tokens(self, part: Attachment) -> tuple[int, ...]:
        """What a part is in a prompt, measured without encoding it. Raises RequestError."""
        key = _key(part)
        with self._lock:
            found = self._measured.get(key)
        if found is None:
            found = self._projector.measure(part)
            with self._lock:
                self._measured[key] = found
                if len(self._measured) > MOST_MEASURED:
                    self._measured.popitem(last=False)
        return found

    def media(
        self, parts: Sequence[Attachment], *, stopped: Callable[[], bool]
    ) -> tuple[Media, ...]:
        """The embeddings of all parts, in order; none once it is `stopped`."""
        found: list[Media] = []
        for part in parts:
            if stopped():
                return ()
            found += self._of(part)
        return tuple(found)

    def close(self) -> None:
        """Returns when the thread is done."""
        self.thread.shutdown()

    def _of(self, part: Attachment) -> tuple[Media, ...]:
        key = _key(part)
        if key in self._encoded:
            self._encoded.move_to_end(key)
            return self._encoded[key]
        found = self._encoded[key] = self._projector.encode(part)
        self._bytes += _bytes(found)
        while self._bytes > self._most_bytes:
            self._bytes -= _bytes(self._encoded.popitem(last=False)[1])
        return found


def _give_way() -> None:
    """On Linux, where a thread has a priority of its own, the engine's come first: their steps wait
    for each other at every layer, and one that lost its core holds up all."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _key(part: Attachment) -> bytes:
    return type(part).__name__.encode() + hashlib.sha256(part.data).digest()


def _bytes(media: Sequence[Media]) -> int:
    return sum(one.rows.nbytes + one.places.nbytes for one in media)
