"""Wire bytes as clients see them, one file each. A renderer that changes one changes its file."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def golden(name: str) -> bytes:
    """The bytes of `dialect/name`."""
    return (FOLDER / name).read_bytes()
