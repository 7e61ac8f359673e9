"""Content-addressed files. A blob gets its name only after its digest was computed and matched.

A partial blob is `<key>.incomplete` beside the blobs. Whoever writes one holds the lock of its
key. What a partial holds is never trusted: it is hashed again before the next byte is added.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from shared.model_errors import BadDigest, NoSpace
from workers.models.store import digests, disk

CHUNK_BYTES = 1 << 20
REHASH_CHUNKS = 32
INCOMPLETE = ".incomplete"


class Blobs:
    """The blobs below `root`."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "blobs" / "sha256"
        self._locks = root / "locks"

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self.folder / digests.hex_of(digest)

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here, with this size if one is given."""
        try:
            found = self.path(digest).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def touch(self, digest: str) -> None:
        """Keep an unreferenced blob from expiring: somebody is about to need it."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path(digest))

    def partial_path(self, key: str) -> Path:
        """Where the bytes for `key` (64 hex digits) gather."""
        if not digests.HEX.fullmatch(key):
            raise ValueError(f"not a blob key: {key!r}")
        return self.folder / (key + INCOMPLETE)

    def partial_bytes(self, key: str) -> int:
        """Bytes of `key` that arrived so far."""
        try:
            return self.partial_path(key).stat().st_size
        except FileNotFoundError:
            return 0

    def lock(self, key: str) -> FileLock:
        """The lock a writer of `key` holds."""
        return disk.lock(self._locks / f"{key}.lock")

    def open_partial(self, key: str, *, limit: int | None = None) -> Partial:
        """Go on with `key` where it stopped; more than `limit` bytes will be refused.

        Call `rehash` until it says False before anything else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        return Partial(self, self.partial_path(key), limit)

    def new_partial(self, *, limit: int | None = None) -> Partial:
        """A partial nobody else writes, for bytes whose digest is not known yet."""
        return self.open_partial(secrets.token_hex(32), limit=limit)

    def require_space(self, needed_bytes: int) -> None:
        """NoSpace unless this many bytes more fit on the blobs' disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        disk.require_space(self.folder, needed_bytes)

    def put(self, raw: bytes) -> str:
        """Store some bytes; their digest."""
        digest = digests.of(raw)
        if not self.has(digest, len(raw)):
            with contextlib.closing(self.new_partial()) as partial:
                partial.append(raw)
                partial.finish(digest)
        return digest

    def read(self, digest: str, *, limit: int) -> bytes:
        """A small blob whole. BadDigest if its bytes changed; ValueError above `limit` bytes."""
        with self.path(digest).open("rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise ValueError(f"{digest} has more than {limit} bytes")
        if digests.of(raw) != digest:
            raise BadDigest(f"{digest} changed on disk: delete the model and pull it again")
        return raw


class Partial:
    """A blob on its way in. Not for two threads at once."""

    def __init__(self, blobs: Blobs, path: Path, limit: int | None) -> None:
        self._blobs = blobs
        self._path = path
        self._limit = limit
        # Unbuffered: on a full disk a buffer would fail once more when it is closed.
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size = 0
        found = path.stat().st_size
        self.resumed = found > 0
        if limit is not None and found > limit:
            self.restart()

    @property
    def digest(self) -> str:
        """Digest of what came so far."""
        return digests.PREFIX + self._hash.hexdigest()

    @property
    def folder(self) -> Path:
        """Where it gathers: the disk that needs room."""
        return self._path.parent

    def rehash(self) -> bool:
        """Hash a step of what an earlier attempt left; True while there is more of it.

        In steps, so that a caller can be cancelled in between.
        """
        for _ in range(REHASH_CHUNKS):
            chunk = self._file.read(CHUNK_BYTES)
            if not chunk:
                return False
            self._hash.update(chunk)
            self.size += len(chunk)
        return True

    def append(self, chunk: bytes) -> None:
        """Add bytes. BadDigest when there are more than there may be; NoSpace."""
        if self._limit is not None and self.size + len(chunk) > self._limit:
            self.drop()
            raise BadDigest(f"more bytes came than the {self._limit} that were announced")
        try:
            _write_all(self._file, chunk)
        except OSError as error:
            raise _disk_error(error, self._path, len(chunk)) from error
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forget what came so far."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.resumed = False

    def finish(self, expected: str | None = None) -> str:
        """Check the digest, sync, give the blob its name; the digest. BadDigest drops the bytes."""
        digest = self.digest
        if expected not in (None, digest):
            self.restart()
            raise BadDigest(f"wrong bytes: expected {expected}, got {digest}; nothing was stored")
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.replace(self._blobs.path(digest))
        disk.sync_folder(self._blobs.folder)
        return digest

    def drop(self) -> None:
        """Close and delete: these bytes are of no use to anyone."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close; what came so far stays for the next attempt."""
        self._file.close()


def read_chunks(file: BinaryIO, *, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The rest of a binary file, piece by piece."""
    while chunk := file.read(size):
        yield chunk


def _write_all(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _disk_error(error: OSError, path: Path, wanted: int) -> Exception:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return NoSpace.of(needed_bytes=wanted, free_bytes=0, where=str(path.parent))
