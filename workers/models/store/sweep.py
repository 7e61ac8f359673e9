"""Takes what a crash or an abandoned pull left behind: old partial blobs, files no model needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import Timeout

from workers.models.store import digests, disk, index
from workers.models.store.blobs import INCOMPLETE
from workers.models.store.store import Store

KEEP_S = 7 * 24 * 3600.0


def sweep(store: Store, *, now_s: float | None = None) -> list[Path]:
    """Remove leftovers last written over 7 days before `now_s` (Unix time); their paths.

    A finished blob that no model names is the first half of an interrupted pull, so it has the
    same 7 days. Partials someone is writing are left alone.
    """
    before_s = (time.time() if now_s is None else now_s) - KEEP_S
    removed = [path for path in _partials(store, before_s) if _remove_partial(store, path)]
    with disk.lock(store.root / "locks" / "store.lock"):
        for path in list(_orphans(store, before_s)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _partials(store: Store, before_s: float) -> list[Path]:
    return [path for path in store.blobs.folder.glob(f"*{INCOMPLETE}") if _older(path, before_s)]


def _remove_partial(store: Store, path: Path) -> bool:
    lock = store.blobs.lock(path.name.removesuffix(INCOMPLETE))
    try:
        with lock.acquire(blocking=False):
            path.unlink(missing_ok=True)
            return True
    except Timeout:
        return False


def _orphans(store: Store, before_s: float) -> Iterator[Path]:
    present = index.read(store.root / "models.json")
    models = {digests.hex_of(entry.id) for entry in present.models}
    blobs = {digests.hex_of(digest) for digest in present.referenced}
    for kind, needed in (("blobs", blobs), ("manifests", models), ("bundles", models)):
        for path in (store.root / kind / "sha256").glob("*"):
            known = not digests.HEX.fullmatch(path.name) or path.name in needed
            if not known and _older(path, before_s):
                yield path


def _older(path: Path, before_s: float) -> bool:
    try:
        return path.stat().st_mtime < before_s
    except FileNotFoundError:
        return False
