"""A load of streaming chat clients against one URL, and what each of them saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpx
import msgspec

PIECE = b'"content":"'


class Seen(msgspec.Struct, frozen=True):
    """One stream as its client saw it, in seconds from the moment it was asked for."""

    ttft_s: float
    total_s: float
    gaps_s: tuple[float, ...]
    completion_tokens: int


class Load(msgspec.Struct, frozen=True):
    """All streams of one run together."""

    streams: tuple[Seen, ...]
    wall_s: float

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens of all streams over the whole time."""
        return sum(seen.completion_tokens for seen in self.streams) / self.wall_s


async def chat_together(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> Load:
    """Send all bodies at once, streaming, and wait for the last. Raises on any failed answer."""
    limits = httpx.Limits(max_connections=len(bodies), max_keepalive_connections=len(bodies))
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        began_s = time.perf_counter()
        seen = await asyncio.gather(*(chat(client, path, body) for body in bodies))
        return Load(tuple(seen), time.perf_counter() - began_s)


async def chat(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Seen:
    """One streamed chat. The number of tokens is the server's own count."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    began_s = time.perf_counter()
    times: list[float] = []
    tail = b""
    async with client.stream("POST", path, json=asked) as answer:
        answer.raise_for_status()
        async for data in answer.aiter_raw():
            pieces = data.count(PIECE) - data.count(PIECE + b'"')
            times += [time.perf_counter() - began_s] * pieces
            tail = (tail + data)[-4096:]
    return Seen(times[0], time.perf_counter() - began_s, gaps(times), usage_of(tail))


def gaps(times: Sequence[float]) -> tuple[float, ...]:
    """Time between one piece and the next; pieces of one write have none."""
    return tuple(after - before for before, after in pairwise(times))


def usage_of(tail: bytes) -> int:
    """completion_tokens of the usage chunk at a stream's end."""
    assert tail.rstrip().endswith(b"data: [DONE]"), tail
    chunks = [line[6:] for line in tail.split(b"\n") if line.startswith(b"data: {")]
    for chunk in reversed(chunks):
        if usage := msgspec.json.decode(chunk).get("usage"):
            return int(usage["completion_tokens"])
    raise ValueError("the stream told no usage")
