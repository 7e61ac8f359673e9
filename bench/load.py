"""A load of streaming chat clients against one URL, and what each of them saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import msgspec

PIECE = b'"content":"'


class Usage(msgspec.Struct, frozen=True):
    """A server's own count."""

    prompt_tokens: int
    completion_tokens: int


class Seen(msgspec.Struct, frozen=True):
    """One stream as its client saw it, in seconds from the moment it was asked for."""

    ttft_s: float
    total_s: float
    gaps_s: tuple[float, ...]
    usage: Usage


class Load(msgspec.Struct, frozen=True):
    """All streams of one run together."""

    streams: tuple[Seen, ...]
    wall_s: float

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens of all streams over the whole time."""
        return sum(seen.usage.completion_tokens for seen in self.streams) / self.wall_s

    @property
    def prompt_tokens(self) -> int:
        """Of all streams."""
        return sum(seen.usage.prompt_tokens for seen in self.streams)

    @property
    def ttft_s(self) -> tuple[float, ...]:
        """Each stream's time to its first piece of text."""
        return tuple(seen.ttft_s for seen in self.streams)


async def chat_together(url: str, path: str, bodies: Sequence[dict[str, Any]]) -> Load:
    """Send all bodies at once, streaming, and wait for the last. Raises on any failed answer."""
    began_s = time.perf_counter()
    seen = await asyncio.gather(*(chat(url, path, body) for body in bodies))
    return Load(tuple(seen), time.perf_counter() - began_s)


async def chat(url: str, path: str, body: dict[str, Any]) -> Seen:
    """One streamed chat on a connection of its own. The number of tokens is the server's count.

    Plain sockets: on a small machine a client library's work on each chunk would be charged to the
    server, whose cores it shares.
    """
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    began_s = time.perf_counter()
    writer.write(_request(path, msgspec.json.encode(asked)))
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError((head + await reader.read(4096)).decode())
    times: list[float] = []
    tail = b""
    while data := await reader.read(65536):
        pieces = data.count(PIECE) - data.count(PIECE + b'"')
        times += [time.perf_counter() - began_s] * pieces
        tail = (tail + data)[-4096:]
    writer.close()
    return Seen(times[0], time.perf_counter() - began_s, gaps(times), usage_of(tail))


def _request(path: str, body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def gaps(times: Sequence[float]) -> tuple[float, ...]:
    """Time between one piece and the next; pieces of one write have none."""
    return tuple(after - before for before, after in pairwise(times))


def usage_of(tail: bytes) -> Usage:
    """What the usage chunk at a stream's end says."""
    if b"data: [DONE]" not in tail:
        raise RuntimeError(f"the stream was cut: {tail!r}")
    chunks = [line[6:] for line in tail.split(b"\n") if line.startswith(b"data: {")]
    for chunk in reversed(chunks):
        if usage := msgspec.json.decode(chunk).get("usage"):
            return msgspec.convert(usage, Usage)
    raise ValueError("the stream told no usage")
