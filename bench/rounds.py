"""Systems under the same prompts, turn by turn, and how they are compared.

A round asks every system the prompts of the same seeds, and each round begins with another one. A
ratio is of two runs of one round, so that what else the machine does in it touches both.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol

LOOP, PATH, LLAMA = "loop", "whole path", "llama-server"
ABSENT = "not on PATH"
WARM_TOKENS = 8


class Measured(Protocol):
    """Streams that started together: prompt tokens of all of them, and each one's TTFT."""

    @property
    def tokens_per_s(self) -> float: ...
    @property
    def ttft_s(self) -> tuple[float, ...]: ...
    @property
    def prompt_tokens(self) -> int: ...


System = Callable[[Sequence[int], int], Awaitable[Measured]]  # prompts' seeds, tokens of an answer
Round = Mapping[str, Measured]
Pick = Callable[[Measured], float]


async def play(
    systems: Mapping[str, System],
    streams: int,
    seeds: Iterator[int],
    *,
    tokens: int,
    rounds: int,
) -> list[Round]:
    """So many rounds of so many streams."""
    names, found = list(systems), []
    for turn in range(rounds):
        first = turn % len(names)
        chosen = [next(seeds) for _ in range(streams)]
        order = names[first:] + names[:first]
        found.append({name: await systems[name](chosen, tokens) for name in order})
    return found


async def warm(systems: Mapping[str, System], streams: int, seeds: Iterator[int]) -> None:
    """A short round for nothing. Raises RuntimeError where prompts differ in length: another
    template would be another task."""
    (only,) = await play(systems, streams, seeds, tokens=WARM_TOKENS, rounds=1)
    lengths = {name: measured.prompt_tokens for name, measured in only.items()}
    if len(set(lengths.values())) > 1:
        raise RuntimeError(f"the systems read different prompts; tokens: {lengths}")


def rate(measured: Measured) -> float:
    """Tokens a second of all streams."""
    return measured.tokens_per_s


def median_ttft_ms(measured: Measured) -> float:
    """Of the stream in the middle."""
    return 1000 * statistics.median(measured.ttft_s)


def last_ttft_ms(measured: Measured) -> float:
    """Of the stream that waited longest."""
    return 1000 * max(measured.ttft_s)


def median(rounds: Sequence[Round], name: str, pick: Pick) -> str:
    """A system's median over the rounds, as a cell."""
    if name not in rounds[0]:
        return ABSENT
    return f"{statistics.median(pick(turn[name]) for turn in rounds):.1f}"


def ratio(rounds: Sequence[Round], name: str, other: str, pick: Pick) -> tuple[str, str]:
    """`name` divided by `other`, round by round: the median, and the lowest and highest."""
    if other not in rounds[0]:
        return ABSENT, ""
    found = sorted(pick(turn[name]) / pick(turn[other]) for turn in rounds)
    return f"{statistics.median(found):.3f}", f"{found[0]:.3f}-{found[-1]:.3f}"


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of all lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
