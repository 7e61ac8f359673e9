"""The promises on a real model, a real Redis and real processes that really get killed."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
import pytest_asyncio

from shared import bus, keys
from shared.events import Finished, Started, TextDelta
from tests.system.fleet import CHAT, REF, Fleet, body, fleet, samples, stream_text

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(240)]

STORY = "Tell me a long story about a caravan in the desert."
SLOW = {"max_tokens": 400, "temperature": 0, "ignore_eos": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house() -> AsyncIterator[Fleet]:
    """One api and one worker, for tests that leave them as they were."""
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        yield house


def client_of(house: Fleet) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=house.url, timeout=120, limits=limits)


async def settled(house: Fleet, *, within_s: float) -> None:
    """No slot in use, nothing leased, nothing queued."""
    async with asyncio.timeout(within_s):
        while await busy(house):
            await asyncio.sleep(0.05)


async def busy(house: Fleet) -> int:
    """Slots in use by the worker's card, and leases and queued jobs in Redis."""
    slots = int(await house.metric("caravan_slots_busy"))
    leased = await house.redis.zcard(keys.leases(REF))
    return slots + leased + await house.redis.zcard(keys.lane(REF, "interactive"))


@pytest.mark.asyncio(loop_scope="module")
async def test_eight_clients_are_decoded_together(house: Fleet) -> None:
    before = await rows_at_least(house, 8)
    async with client_of(house) as client:
        asks = [body(f"Count from {n}.", max_tokens=32, ignore_eos=True) for n in range(8)]
        texts = await asyncio.gather(*(stream_text(client, ask) for ask in asks))
    assert all(texts)
    async with asyncio.timeout(10):
        while await rows_at_least(house, 8) - before < 16:
            await asyncio.sleep(0.1)


async def rows_at_least(house: Fleet, rows: int) -> float:
    """How many steps so far decoded `rows` sequences or more."""
    async with client_of(house) as client:
        text = (await client.get("/metrics")).text
    name, limit = "caravan_step_decode_rows", {"le": f"{rows - 1}.0"}
    below = sum(steps for _, steps in samples(text, f"{name}_bucket", limit))
    return sum(steps for _, steps in samples(text, f"{name}_count", {})) - below


@pytest.mark.asyncio(loop_scope="module")
async def test_a_common_system_prompt_is_computed_once(house: Fleet) -> None:
    async with client_of(house) as client:
        system = "You answer questions about camels. " * 150
        asks = [common(system, f"Question {n}?") for n in range(16)]
        answers = await asyncio.gather(*(client.post(CHAT, json=ask) for ask in asks))
    usages = [answer.json()["usage"] for answer in answers]
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
    computed = [usage["prompt_tokens"] - n for usage, n in zip(usages, cached, strict=True)]
    assert min(usage["prompt_tokens"] for usage in usages) > 900
    assert sum(n > 100 for n in computed) == 1, computed


def common(system: str, user: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {"model": "ai/smollm2", "messages": messages, "max_tokens": 4}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_hundred_clients_that_leave_free_their_places(house: Fleet, stream: bool) -> None:
    async def hear(client: httpx.AsyncClient, ask: dict[str, Any]) -> None:
        async with client.stream("POST", CHAT, json=ask) as answer:
            async for _ in answer.aiter_lines():
                pass

    async def leave(client: httpx.AsyncClient, number: int) -> None:
        ask = {**body(f"{number}: {STORY}", **SLOW), "stream": stream}
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hear(client, ask), 0.2 + number / 50)

    async with client_of(house) as client:
        await asyncio.gather(*(leave(client, number) for number in range(100)))
        await settled(house, within_s=30)
        assert (await client.post(CHAT, json=body("Hi", max_tokens=2))).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_polls_and_a_step_is_at_most_one_round_trip(house: Fleet) -> None:
    await settled(house, within_s=30)
    path = house.redis_url.removeprefix("unix://")
    with subprocess.Popen(
        ["redis-cli", "-s", path, "MONITOR"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        assert "OK" in monitor.stdout.readline()
        async with client_of(house) as client:
            ask = body("Count to fifty.", max_tokens=50, ignore_eos=True)
            await stream_text(client, ask)
        await house.redis.echo("end of the test")
        lines = []
        for line in monitor.stdout:
            if "end of the test" in line:
                break
            lines.append(line)
        monitor.kill()
    top = [line for line in lines if " lua]" not in line]
    commands = [re.findall(r'"([A-Za-z]+)"', line)[0].upper() for line in top]
    beats = {"HSET", "EXPIRE"}  # the worker's card, once a second
    scripts = commands.count("EVALSHA")
    allowed = {"EVALSHA", "MULTI", "GET", "INCRBY", "EXEC", "ZRANK", "ZCARD", *beats}
    assert set(commands) <= allowed, commands
    assert scripts <= 50 + 4, commands
    seconds = float(top[-1].split()[0]) - float(top[0].split()[0])
    assert commands.count("HSET") <= 2 * seconds + 3, "cards are written more than once a second"


async def test_kill_nine_the_only_worker_and_every_stream_goes_on() -> None:
    async with fleet(lease_ms=1000, exact=True) as house:
        house.api()
        worker = house.worker()
        await house.ready()
        asks = [body(f"{n}: {STORY}", **{**SLOW, "max_tokens": 80}) for n in range(4)]
        async with client_of(house) as client:
            undisturbed = await asyncio.gather(*(stream_text(client, ask) for ask in asks))
            streams = [asyncio.create_task(stream_text(client, ask)) for ask in asks]
            for _ in range(3):
                await progress(house, tokens=15)
                house.end(worker, signal.SIGKILL)
                worker = house.worker()
                await house.ready()
            disturbed = await asyncio.gather(*streams)
        assert ["".join(pieces) for pieces in disturbed] == ["".join(p) for p in undisturbed]
        for job in await jobs_of(house):
            await assert_whole(house, job, tokens=80)


async def progress(house: Fleet, *, tokens: int) -> None:
    """Until every running job's journal has grown by so many events since now."""
    start = {job: await length(house, job) for job in await running(house)}
    while len(start) < 4:
        start = {job: await length(house, job) for job in await running(house)}
        await asyncio.sleep(0.02)
    for job, events in start.items():
        while await length(house, job) < events + tokens:
            await asyncio.sleep(0.02)


async def running(house: Fleet) -> list[str]:
    return [job.decode() for job in await house.redis.zrange(keys.leases(REF), 0, -1)]


async def length(house: Fleet, job: str) -> int:
    return await bus.last_number(house.redis, job)


async def jobs_of(house: Fleet) -> list[str]:
    names = [name async for name in house.redis.scan_iter(match=keys.journal("*"))]
    return [name.decode().removeprefix(keys.journal("")) for name in names]


async def assert_whole(house: Fleet, job: str, *, tokens: int) -> None:
    """Every event number once, exactly `tokens` tokens, one beginning, one end."""
    frames = await bus.read_journal(house.redis, job)
    assert frames[0].number == 1
    assert all(before.next_number == after.number for before, after in pairwise(frames))
    assert sum(len(run.ids) // 4 for frame in frames for run in frame.tokens) == tokens
    events = [event for frame in frames for event in frame.events]
    assert sum(isinstance(event, Started) for event in events) == 1
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion_tokens == tokens
    assert all(isinstance(event, TextDelta) for event in events[1:-1])


async def test_a_stopped_worker_that_continues_writes_nothing() -> None:
    async with fleet(lease_ms=1000) as house:
        house.api()
        sleeper = house.worker()
        await house.ready()
        async with client_of(house) as client:
            ask = body(STORY, max_tokens=120, temperature=0, ignore_eos=True)
            stream = asyncio.create_task(stream_text(client, ask))
            while not await jobs_of(house):
                await asyncio.sleep(0.01)
            (job,) = await jobs_of(house)
            sleeper.send_signal(signal.SIGSTOP)
            house.worker()
            while int(await house.redis.hget(keys.job(job), "epoch") or 0) < 2:
                await asyncio.sleep(0.05)
            heir = await house.redis.hget(keys.job(job), "worker")
            sleeper.send_signal(signal.SIGCONT)
            assert await stream
        await assert_whole(house, job, tokens=120)
        assert await house.redis.hget(keys.job(job), "epoch") == b"2"
        assert await house.redis.hget(keys.job(job), "worker") == heir
        assert "job.fenced" in house.log()


async def test_two_workers_share_one_queue() -> None:
    async with fleet(slots=4) as house:
        house.api()
        house.worker()
        house.worker()
        await house.ready(workers=2)
        async with client_of(house) as client:
            asks = [body(f"{n}?", max_tokens=24, ignore_eos=True) for n in range(8)]
            await asyncio.gather(*(stream_text(client, ask) for ask in asks))
        async with asyncio.timeout(10):
            while await house.metric("caravan_decode_tokens_total") < 8 * 24:
                await asyncio.sleep(0.1)
        assert min(await made_by_worker(house)) >= 24


async def made_by_worker(house: Fleet) -> list[float]:
    async with client_of(house) as client:
        text = (await client.get("/metrics")).text
    return [made for _, made in samples(text, "caravan_decode_tokens_total", {})]


async def test_sigterm_hands_running_jobs_to_another_worker() -> None:
    async with fleet(drain_timeout_s=0, exact=True) as house:
        house.api()
        first = house.worker()
        await house.ready()
        async with client_of(house) as client:
            ask = body(STORY, max_tokens=100, temperature=0, ignore_eos=True)
            whole = "".join(await stream_text(client, ask))
            stream = asyncio.create_task(stream_text(client, ask))
            while len(await jobs_of(house)) < 2:
                await asyncio.sleep(0.01)
            house.worker()
            await house.ready(workers=2)
            house.end(first, signal.SIGTERM)
            assert "".join(await stream) == whole


async def test_a_stream_outlives_a_killed_redis() -> None:
    async with fleet(appendonly=True, lease_ms=1000) as house:
        house.api()
        house.worker()
        await house.ready()
        async with client_of(house) as client:
            ask = body(STORY, max_tokens=150, temperature=0, ignore_eos=True)
            stream = asyncio.create_task(stream_text(client, ask))
            while not await jobs_of(house):
                await asyncio.sleep(0.01)
            (job,) = await jobs_of(house)
            while await length(house, job) < 10:
                await asyncio.sleep(0.01)
            house.server.kill()
            answer = await client.post(CHAT, json=body("Hi"))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            house.server.start()
            assert await stream
            assert (await client.post(CHAT, json=body("Hi", max_tokens=2))).status_code == 200
        await assert_whole(house, job, tokens=150)
