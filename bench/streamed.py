"""Tokens that a process streams in a core-second: the api in each dialect, and the yardstick.

Machines differ twofold in what a core-second does, and one machine from hour to hour, so each is
measured in turns with the yardstick, and a ratio is of two runs of one round.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import psutil
from rich.table import Table

from bench import wire

STREAMS = 64
STEPS = 250
PACES_S = (0.02, 0.005)  # between steps: 3,200 and 12,800 tokens/s
ROUNDS = 3
SETTLE_S = 0.5
ALONE = "sse-starlette alone"

Round = Mapping[tuple[str, float], float]  # (name, pace) to tokens per core-second


class Server(msgspec.Struct, frozen=True):
    """A process under test."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """User and system time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Bytes in memory."""
        return int(self.process.memory_info().rss)


class Source(Protocol):
    """What feeds the streams of a server."""

    async def claim(self, count: int) -> None: ...
    async def play(self, *, steps: int, pace_s: float) -> None: ...
    async def finish(self) -> None: ...


class Line(msgspec.Struct, frozen=True):
    """What is measured: the request of each stream, and how a stream ends."""

    server: Server
    source: Source
    asked: bytes
    end: bytes


async def measure(line: Line, pace_s: float) -> float:
    """Tokens per core-second: from the second token to the last but the end."""
    clients = [
        asyncio.create_task(wire.stream(line.server.port, line.asked)) for _ in range(STREAMS)
    ]
    await line.source.claim(STREAMS)
    await line.source.play(steps=1, pace_s=0)
    await asyncio.sleep(SETTLE_S)
    before_s = line.server.cpu_s()
    await line.source.play(steps=STEPS, pace_s=pace_s)
    await asyncio.sleep(SETTLE_S)
    used_s = line.server.cpu_s() - before_s
    await line.source.finish()
    for tail in await asyncio.gather(*clients):
        assert line.end in tail, tail
    return STREAMS * STEPS / used_s


async def rounds(lines: Mapping[str, Line]) -> list[Round]:
    """All lines at both paces, ROUNDS times; each round begins with another line."""
    names = list(lines)
    found: list[Round] = []
    for turn in range(ROUNDS):
        order = names[turn:] + names[:turn]
        found.append(
            {
                (name, pace_s): await measure(lines[name], pace_s)
                for pace_s in PACES_S
                for name in order
            }
        )
    return found


def table(found: Sequence[Round], names: Sequence[str]) -> Table:
    """Medians, and beside each the ratio to ALONE: the median, the lowest and the highest."""
    title = f"tokens per core-second of one process, {STREAMS} streams, a token a step"
    columns = [column for pace_s in PACES_S for column in (_pace(pace_s), "of alone")]
    rows = Table("dialect", *columns, title=title, caption=f"medians of {ROUNDS} rounds in turn")
    for name in names:
        rows.add_row(name, *(cell for pace_s in PACES_S for cell in _cells(found, name, pace_s)))
    return rows


def _pace(pace_s: float) -> str:
    return f"{STREAMS / pace_s:,.0f} tokens/s"


def _cells(found: Sequence[Round], name: str, pace_s: float) -> tuple[str, str]:
    rate = statistics.median(turn[name, pace_s] for turn in found)
    ratios = sorted(turn[name, pace_s] / turn[ALONE, pace_s] for turn in found)
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    return f"{rate:,.0f}", "" if name == ALONE else spread
