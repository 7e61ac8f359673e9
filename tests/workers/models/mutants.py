"""Harmed copies of a small model file: bytes of the header flipped, cut away, put in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.model.tiny_gguf import write_gemma3


def mutants(folder: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes, the same ones each time; every third of a kind."""
    whole = write_gemma3(folder / "whole.gguf").read_bytes()
    header = whole.rindex(b"blk.5.") + 64  # the names and places of all weights lie before it
    draw = random.Random(200)
    for number in range(count):
        kind = ("flipped", "cut", "lengthened")[number % 3]
        at = draw.randrange(4, header)
        match kind:
            case "flipped":
                harmed = bytearray(whole)
                for _ in range(draw.randint(1, 2)):
                    harmed[draw.randrange(4, header)] ^= 1 << draw.randrange(8)
            case "cut":
                end = at if draw.random() < 0.5 else len(whole) - draw.randrange(1, 4096)
                harmed = bytearray(whole[:end])
            case _:
                harmed = bytearray(whole[:at] + draw.randbytes(draw.randint(1, 64)) + whole[at:])
        yield f"{kind}-{number}", bytes(harmed)
