"""Small GGUF files and whole models for tests."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from workers.models.store import artifact, digests
from workers.models.store.blobs import INCOMPLETE
from workers.models.store.package import package
from workers.models.store.store import Store, StoredModel


def text(value: str) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(found: int | str) -> bytes:
    """A GGUF value with its type."""
    if isinstance(found, int):
        return struct.pack("<II", 4, found)
    return struct.pack("<I", 8) + text(found)


def gguf_bytes(size: int = 4096, *, seed: str = "a", **more: Any) -> bytes:
    """A whole GGUF of about `size` bytes whose weights differ by `seed`."""
    pairs = {
        "general.architecture": "llama",
        "general.file_type": 15,
        "llama.context_length": 4096,
        **more,
    }
    floats = size // 4
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs))
    body = b"".join(text(key) + value(found) for key, found in pairs.items())
    tensor = text("w") + struct.pack("<IQIQ", 1, floats, 0, 0)
    start = len(head + body + tensor)
    return head + body + tensor + bytes(-start % 32) + noise(floats * 4, seed)


def noise(size: int, seed: str) -> bytes:
    """Bytes that look random and are the same each time."""
    return hashlib.shake_256(seed.encode()).digest(size)


def add_model(
    store: Store, folder: Path, ref: str, *, seed: str = "a", size: int = 4096
) -> StoredModel:
    """A small model in the store."""
    path = folder / f"{seed}.gguf"
    path.write_bytes(gguf_bytes(size, seed=seed))
    return package(store, [path], ref, created_s=1_700_000_000)


def whole_blobs(store: Store) -> list[str]:
    """Whole blobs of a store."""
    return [path.name for path in store.blobs.folder.glob("*") if path.suffix != INCOMPLETE]


def tar_of(*entries: tuple[str, bytes] | tarfile.TarInfo) -> io.BytesIO:
    """A tar of files, and of bare headers."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            member = tarfile.TarInfo(entry[0])
            member.size = len(entry[1])
            tar.addfile(member, io.BytesIO(entry[1]))
    raw.seek(0)
    return raw


def modelpack_tar(weights: bytes) -> bytes:
    """A model in CNCF's format, as a tar."""
    config = msgspec.json.encode({"config": {"format": "gguf", "paramSize": "1k"}})
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": descriptor(artifact.MODELPACK_CONFIG, config),
            "layers": [descriptor(artifact.RAW_WEIGHTS, weights)],
        }
    )
    blobs = [(f"blobs/sha256/{digests.hex_of(digests.of(raw))}", raw) for raw in (config, weights)]
    return tar_of(*blobs, ("manifest.json", manifest)).getvalue()


def descriptor(kind: str, raw: bytes) -> dict[str, object]:
    """A blob as a manifest names it."""
    return {"mediaType": kind, "digest": digests.of(raw), "size": len(raw)}
