"""Progress: the first and the last always, between them not too many."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from workers.models.remote.flights import Flights
from workers.models.remote.progress import Meter, Progress, Report

MIB = 1 << 20


def said(steps: list[tuple[float, int]], *, size: int = 10 * MIB) -> list[int]:
    """What is reported of (time, done) steps of one layer."""
    now = 0.0
    seen: list[int] = []
    meter = Meter(lambda progress: seen.append(progress.done), total=size, clock=lambda: now)
    for at, done in steps:
        now = at
        meter.show("a", done, size)
    return seen


def test_the_first_is_reported_at_once() -> None:
    assert said([(0, 1)]) == [1]


def test_small_steps_wait_for_100_ms() -> None:
    assert said([(0, 1), (0.05, 2), (0.099, 3), (0.1, 4), (0.15, 5)]) == [1, 4]


def test_a_step_of_one_mib_does_not_wait() -> None:
    assert said([(0, 0), (0.001, MIB - 1), (0.002, MIB), (0.003, MIB + 1)]) == [0, MIB]


def test_the_last_is_reported_once() -> None:
    assert said([(0, 0), (0.001, 10), (0.001, 10)], size=10) == [0, 10]


def test_layers_have_their_own_clocks() -> None:
    seen: list[Progress] = []
    meter = Meter(seen.append, total=100, clock=lambda: 0.0)
    meter.show("a", 1, 50)
    meter.show("b", 2, 50)
    assert seen == [
        Progress(layer="a", done=1, size=50, total=100),
        Progress(layer="b", done=2, size=50, total=100),
    ]


class Transfer:
    """Work that goes on when the test says so."""

    def __init__(self) -> None:
        self.starts = 0
        self.cancelled = False
        self.go = asyncio.Event()
        self.begun = asyncio.Event()

    async def work(self, report: Report) -> str:
        self.starts += 1
        report(Progress(layer="a", done=1, size=2, total=2))
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        report(Progress(layer="a", done=2, size=2, total=2))
        return "done"


async def test_two_callers_share_one_transfer() -> None:
    transfer, flights = Transfer(), Flights[str]()

    async def watch() -> list[object]:
        return [each async for each in flights.join("key", transfer.work)]

    first, second = asyncio.create_task(watch()), asyncio.create_task(watch())
    await transfer.begun.wait()
    transfer.go.set()
    seen = await first, await second
    assert transfer.starts == 1
    for values in seen:
        assert values[-2:] == [Progress(layer="a", done=2, size=2, total=2), "done"]


async def test_one_leaving_does_not_stop_it_for_the_other() -> None:
    transfer, flights = Transfer(), Flights[str]()
    async with aclosing(flights.join("key", transfer.work)) as staying:
        assert await anext(staying) == Progress(layer="a", done=1, size=2, total=2)
        async with aclosing(flights.join("key", transfer.work)) as leaving:
            assert await anext(leaving) == Progress(layer="a", done=1, size=2, total=2)
        assert not transfer.cancelled
        transfer.go.set()
        assert [each async for each in staying][-1] == "done"
    assert transfer.starts == 1


async def test_the_last_one_leaving_stops_it() -> None:
    transfer, flights = Transfer(), Flights[str]()
    async with aclosing(flights.join("key", transfer.work)) as leaving:
        await anext(leaving)
    await flights.close()
    again = Transfer()
    again.go.set()
    assert [each async for each in flights.join("key", again.work)][-1] == "done"
    assert transfer.cancelled


async def test_a_failure_reaches_everyone() -> None:
    flights = Flights[str]()
    go = asyncio.Event()

    async def work(report: Report) -> str:
        await go.wait()
        raise ValueError("no")

    async def watch() -> None:
        async for _ in flights.join("key", work):
            pass

    both = [asyncio.create_task(watch()) for _ in range(2)]
    go.set()
    for task in both:
        with pytest.raises(ValueError, match="no"):
            await task
