"""Digests as registries write them: `sha256:` and 64 lower-case hex digits, nothing else."""

from __future__ import annotations

import hashlib
import re

PREFIX = "sha256:"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
HEX = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is a whole digest and safe as a file name behind its prefix."""
    return DIGEST.fullmatch(text) is not None


def hex_of(digest: str) -> str:
    """The 64 hex digits. ValueError for anything that is no digest, so no path can be built."""
    if not is_digest(digest):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    return digest.removeprefix(PREFIX)


def of(raw: bytes) -> str:
    """Digest of some bytes."""
    return PREFIX + hashlib.sha256(raw).hexdigest()
