"""Files that survive a crash: written aside, synced, renamed. Locks that die with their owner."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filelock import FileLock

from shared.model_errors import NoSpace

SPARE_BYTES = 64 << 20


def write_file(path: Path, raw: bytes) -> None:
    """Replace `path` by `raw` at once; after a crash it holds the old or the new bytes.

    The caller holds the store's lock, so one name aside is enough.
    """
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock(path: Path) -> FileLock:
    """A lock on `path` between processes and between threads; the kernel frees it on a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False, poll_interval=0.01)


def require_space(folder: Path, needed_bytes: int) -> None:
    """NoSpace unless `folder`'s disk takes `needed_bytes` and keeps a little to breathe."""
    free = shutil.disk_usage(folder).free - SPARE_BYTES
    if needed_bytes > free:
        raise NoSpace.of(needed_bytes=needed_bytes, free_bytes=free, where=str(folder))


def tree_bytes(folder: Path) -> int:
    """Bytes on disk below `folder`; a file with several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        seen[(found.st_dev, found.st_ino)] = found.st_blocks * 512
    return sum(seen.values())
