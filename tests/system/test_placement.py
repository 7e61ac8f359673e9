"""Models that come and go, on real processes: more models than memory, a hot one, a broken one."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import bus, keys, presence
from shared.settings import Settings
from tests.system.fleet import CHAT, Fleet, fleet
from workers import local

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(150)]

SMALL = {"slots": 4, "context": 512, "pool": "true", "emit_interval_ms": 5}


def copies(folder: Path, *names: str) -> str:
    """The default model under several names, as the setting `model`."""
    _, path = local.resolve(Settings())
    for name in names:
        (folder / f"{name}.gguf").symlink_to(path)
    return ",".join(f"{name}={folder / name}.gguf" for name in names)


async def ready(house: Fleet, *, workers: int, models: int) -> None:
    """Return once so many workers and models are known."""
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=house.url) as client:
        while True:
            cards = await presence.workers(house.redis)
            if len(cards) >= workers and await house.redis.hlen(keys.CATALOG) >= models:
                break
            await asyncio.sleep(0.05)
        while True:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)


async def chat(client: httpx.AsyncClient, model: str, text: str = "Hi", **more: Any) -> Any:
    ask = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}
    return await client.post(CHAT, json=ask)


def events(house: Fleet, name: str) -> list[dict[str, Any]]:
    """The log lines of an event, of all processes, in the order in which they were written."""
    lines = (line for line in house.log().splitlines() if line.startswith("{"))
    found = [one for line in lines if (one := json.loads(line)).get("event") == name]
    return sorted(found, key=lambda one: str(one["timestamp"]))


async def held(house: Fleet) -> list[set[str]]:
    """What each worker holds and serves."""
    cards = await presence.workers(house.redis)
    return [{one.model for one in card.models if one.state == "ready"} for card, _ in cards]


async def idle(house: Fleet, model: str) -> None:
    """Return once the model's only holder says that it is idle."""
    async with asyncio.timeout(10):
        while True:
            [(card, _)] = await presence.workers(house.redis)
            if any(one.model == model and not one.slots_busy for one in card.models):
                return
            await asyncio.sleep(0.05)


async def test_three_models_share_the_memory_of_two(tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    async with fleet(model=copies(tmp_path, *names), memory="600MiB", **SMALL) as house:
        house.api()
        house.worker()
        await ready(house, workers=1, models=3)
        taken = []

        async def watch() -> None:
            while True:
                for card, _ in await presence.workers(house.redis):
                    taken.append(sum(one.bytes for one in card.models))
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch())
        async with httpx.AsyncClient(base_url=house.url, timeout=100) as client:
            asks = [chat(client, names[n % 3], f"Say {n}.") for n in range(60)]
            answers = await asyncio.gather(*asks)
        watching.cancel()
        assert [answer.status_code for answer in answers] == [200] * 60
        assert all(answer.json()["usage"]["completion_tokens"] for answer in answers)
        loads = events(house, "model.loaded")
        assert len(loads) == 3, "all that waited for a model was served before it went"
        assert 0 < max(taken) <= 600 << 20
        waited = [answer.json()["timings"]["load_ms"] for answer in answers]
        assert max(waited) > 0


async def test_turns_are_taken_under_steady_load(tmp_path: Path) -> None:
    """Two models, room for one, callers who never stop: both are served, swaps are few."""
    async with fleet(model=copies(tmp_path, "one", "two"), memory="300MiB", **SMALL) as house:
        house.api()
        house.worker()
        await ready(house, workers=1, models=2)
        until_s = time.monotonic() + 6

        async def call(client: httpx.AsyncClient, model: str) -> int:
            answered = 0
            while time.monotonic() < until_s:
                answered += (await chat(client, model)).status_code == 200
            return answered

        async with httpx.AsyncClient(base_url=house.url, timeout=100) as client:
            callers = [call(client, name) for name in ["one", "two"] * 3]
            answered = await asyncio.gather(*callers)
        assert min(answered) > 0, answered
        loads = len(events(house, "model.loaded"))
        assert 2 <= loads <= sum(answered) / 3, (loads, answered)


async def test_a_model_too_big_for_all_is_an_answer_at_once(tmp_path: Path) -> None:
    async with fleet(model=copies(tmp_path, "one"), memory="100MiB", **SMALL) as house:
        house.api()
        house.worker()
        await ready(house, workers=1, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=30) as client:
            answer = await chat(client, "one")
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "model_too_big"
        assert "has 100 MiB" in answer.json()["error"]["message"]


async def test_a_broken_file_fails_its_callers_and_nobody_else(tmp_path: Path) -> None:
    models = copies(tmp_path, "good", "bad")
    good = (tmp_path / "good.gguf").read_bytes()
    (tmp_path / "bad.gguf").unlink()
    with (tmp_path / "bad.gguf").open("wb") as file:  # a header in order, names in disorder
        file.write(good.replace(b"blk.7.attn_q.weight", b"blk.7.attn_Q.weight"))
    async with fleet(model=models, **SMALL) as house:
        house.api()
        worker = house.worker()
        await ready(house, workers=1, models=2)
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
            bad = await asyncio.gather(*(chat(client, "bad") for _ in range(3)))
            assert [one.status_code for one in bad] == [500] * 3
            assert bad[0].json()["error"]["code"] == "model_load_failed"
            assert "unable to load" in bad[0].json()["error"]["message"]
            assert (await chat(client, "good")).status_code == 200
            assert "next try in" in (await chat(client, "bad")).json()["error"]["message"]
        assert len(events(house, "model.not_loaded")) == 1, "backed off"
        assert worker.poll() is None


async def test_a_hot_model_gets_a_second_home_and_leaves_it(tmp_path: Path) -> None:
    settings = {**SMALL, "slots": 1, "keep_alive_s": 1.0, "safety_tick_s": 1}
    async with fleet(model=copies(tmp_path, "hot"), **settings) as house:
        house.api()
        house.worker()
        house.worker()
        await ready(house, workers=2, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=100) as client:
            assert (await chat(client, "hot")).status_code == 200
            assert sorted(map(len, await held(house))) == [0, 1]
            more = {"max_tokens": 96, "ignore_eos": True}
            answers = await asyncio.gather(*(chat(client, "hot", **more) for _ in range(12)))
            assert [answer.status_code for answer in answers] == [200] * 12
            adopted = events(house, "model.adopted")
            assert [one["extra"] for one in adopted] == [False, True]
            async with asyncio.timeout(20):
                while any(await held(house)):
                    await asyncio.sleep(0.2)
            assert (await chat(client, "hot")).status_code == 200


@pytest.mark.parametrize("said", ["Unload", "keep_alive"])
async def test_who_says_so_unloads(tmp_path: Path, said: str) -> None:
    async with fleet(model=copies(tmp_path, "one"), **SMALL) as house:
        house.api()
        house.worker()
        await ready(house, workers=1, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
            ask: dict[str, Any] = {"model": "one", "prompt": "Hi", "stream": False}
            ask["options"] = {"num_predict": 2}
            if said == "keep_alive":
                ask["keep_alive"] = 0
            assert (await client.post("/api/generate", json=ask)).status_code == 200
            if said == "Unload":
                await idle(house, "ai/one:latest")
                answer = await client.post("/engines/unload", json={"models": ["one"]})
                assert answer.json() == {"unloaded_runners": 1}
            async with asyncio.timeout(10):
                while any(await held(house)):
                    await asyncio.sleep(0.05)


async def test_a_killed_worker_of_the_pool_has_an_heir(tmp_path: Path) -> None:
    """Nobody else holds the model: the other worker loads it and goes on behind the last token."""
    settings = {**SMALL, "lease_ms": 1000, "safety_tick_s": 0.5}
    async with fleet(model=copies(tmp_path, "one"), **settings) as house:
        house.api()
        workers = {process.pid: process for process in (house.worker(), house.worker())}
        await ready(house, workers=2, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
            more = {"max_tokens": 100, "ignore_eos": True, "temperature": 0}
            whole = (await chat(client, "one", **more)).json()["choices"][0]["message"]["content"]
            asking = asyncio.create_task(chat(client, "one", **more))
            [job] = await running(house)
            while await bus.last_number(house.redis, job) < 20:
                await asyncio.sleep(0.01)
            cards = [card for card, _ in await presence.workers(house.redis) if card.models]
            house.end(workers[cards[0].pid])
            answer = await asking
        assert answer.json()["choices"][0]["message"]["content"] == whole
        assert answer.json()["usage"]["completion_tokens"] == 100
        assert len(events(house, "model.adopted")) == 2


async def running(house: Fleet) -> list[str]:
    """The job that runs, once there is one."""
    while not (jobs := await house.redis.zrange(keys.leases("ai/one:latest"), 0, -1)):
        await asyncio.sleep(0.01)
    return [job.decode() for job in jobs]
