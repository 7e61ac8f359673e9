"""Models that come and go, on real processes: more models than memory, a hot one, a broken one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import embedding_model
from shared import bus, keys, model_config, presence
from shared.model_config import ModelConfig
from shared.queue import Queue
from shared.settings import Settings
from tests.system.fleet import CHAT, Fleet, fleet
from workers import local

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(150)]

REQUESTS = int(os.environ.get("PLACEMENT_REQUESTS", "60"))
SMALL = {
    "slots": 4,
    "context": 512,
    "pool": "true",
    "emit_interval_ms": 5,
    "lease_ms": 60_000,  # no job goes back to its queue because the machine stood still
}


def copies(folder: Path, *names: str) -> str:
    """The default model under several names, as the setting `model`."""
    _, path = local.resolve(Settings())
    for name in names:
        (folder / f"{name}.gguf").symlink_to(path)
    return ",".join(f"{name}={folder / name}.gguf" for name in names)


async def ready(house: Fleet, *, workers: int, models: int) -> None:
    """Return once so many workers and models are known."""
    async with httpx.AsyncClient(base_url=house.url) as client:
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
    while True:
        [(card, _)] = await presence.workers(house.redis)
        if any(one.model == model and not one.slots_busy for one in card.models):
            return
        await asyncio.sleep(0.05)


async def queued(house: Fleet, count: int) -> None:
    """Return once so many jobs wait."""
    while True:
        refs = [ref.decode() for ref in await house.redis.hkeys(keys.CATALOG)]
        depths = [await Queue(house.redis).depths(ref) for ref in refs]
        if sum(depth["interactive"] for depth in depths) >= count:
            return
        await asyncio.sleep(0.05)


async def most_taken(house: Fleet) -> int:
    """Until cancelled: the most memory that models ever took; the answer is in the exception."""
    most = 0
    try:
        while True:
            for card, _ in await presence.workers(house.redis):
                most = max(most, sum(one.bytes for one in card.models))
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most


async def test_three_models_share_the_memory_of_two(tmp_path: Path) -> None:
    """And an embedding model does. The worker stands still until all is queued: each model comes
    once, serves all that waits for it, and goes."""
    names = ["one", "two", "three"]
    models = f"{copies(tmp_path, *names)},vectors={embedding_model.model()}"
    async with fleet(model=models, memory="600MiB", **SMALL) as house:
        house.api()
        worker = house.worker()
        await ready(house, workers=1, models=4)
        await stopped(house, worker)
        watching = asyncio.create_task(most_taken(house))
        unlimited = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=house.url, timeout=None, limits=unlimited) as client:
            asks = [ask(client, [*names, "vectors"][n % 4], n) for n in range(REQUESTS)]
            asking = asyncio.gather(*asks)
            await queued(house, REQUESTS)
            worker.send_signal(signal.SIGCONT)
            answers = await asking
        watching.cancel()
        assert [answer.status_code for answer in answers] == [200] * REQUESTS
        assert all(answer.json()["usage"]["total_tokens"] for answer in answers)
        loads = [one["model"] for one in events(house, "model.loaded")]
        assert len(loads) == len(set(loads)) == 4, loads
        assert 0 < await watching <= 600 << 20
        chats = [answer.json() for answer in answers if "choices" in answer.json()]
        assert max(chat["timings"]["load_ms"] for chat in chats) > 0


async def ask(client: httpx.AsyncClient, model: str, number: int) -> httpx.Response:
    """A short chat, or a vector."""
    if model != "vectors":
        return await chat(client, model, f"Say {number}.")
    return await client.post("/v1/embeddings", json={"model": model, "input": f"Say {number}."})


async def test_turns_are_taken_under_steady_load(tmp_path: Path) -> None:
    """Two models, room for one, callers who never stop: both are served, and a swap serves all
    the callers who waited for it."""
    async with fleet(model=copies(tmp_path, "one", "two"), memory="300MiB", **SMALL) as house:
        house.api()
        house.worker()
        await ready(house, workers=1, models=2)

        async def call(client: httpx.AsyncClient, model: str) -> list[int]:
            return [(await chat(client, model)).status_code for _ in range(8)]

        async with httpx.AsyncClient(base_url=house.url, timeout=None) as client:
            callers = [call(client, name) for name in ["one", "two"] * 4]
            answered = await asyncio.gather(*callers)
        assert answered == [[200] * 8] * 8
        loads = len(events(house, "model.loaded"))
        assert 2 <= loads <= 8 * 8 / 2, loads


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
            soon_ms = int(1000 * time.time()) + 3_600_000  # however slow this machine is
            await house.redis.hset(keys.loads("ai/bad:latest"), "last_ms", soon_ms)
            assert "next try in" in (await chat(client, "bad")).json()["error"]["message"]
        assert len(events(house, "model.not_loaded")) == 1, "backed off"
        assert worker.poll() is None


async def test_a_hot_model_gets_a_second_home_and_leaves_it(tmp_path: Path) -> None:
    """Callers go on until both workers have it and leave; idle for as long as is said then, both
    let it go."""
    settings = {**SMALL, "slots": 1, "safety_tick_s": 1}
    async with fleet(model=copies(tmp_path, "hot"), **settings) as house:
        house.api()
        house.worker()
        house.worker()
        await ready(house, workers=2, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=None) as client:
            assert (await chat(client, "hot")).status_code == 200
            await homes(house, 1)
            callers = [asyncio.create_task(insist(client, "hot")) for _ in range(12)]
            await homes(house, 2)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
            adopted = events(house, "model.adopted")
            assert [one["extra"] for one in adopted] == [False, True]
            await model_config.merge(house.redis, "ai/hot:latest", ModelConfig(keep_alive_s=0.5))
            await homes(house, 0)
            assert (await chat(client, "hot")).status_code == 200


async def insist(client: httpx.AsyncClient, model: str) -> None:
    """Ask until cancelled, for so much that a queue of it lasts on any machine."""
    while True:
        answer = await chat(client, model, max_tokens=400, ignore_eos=True)
        assert answer.status_code == 200


async def homes(house: Fleet, count: int) -> None:
    """Return once so many workers hold a model."""
    while sum(map(bool, await held(house))) != count:
        await asyncio.sleep(0.05)


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
            await homes(house, 0)


async def test_a_killed_worker_of_the_pool_has_an_heir(tmp_path: Path) -> None:
    """Nobody else holds the model: the other worker loads it and goes on behind the last token."""
    settings = {**SMALL, "lease_ms": 1000, "safety_tick_s": 0.5}
    async with fleet(model=copies(tmp_path, "one"), **settings) as house:
        house.api()
        workers = {process.pid: process for process in (house.worker(), house.worker())}
        await ready(house, workers=2, models=1)
        async with httpx.AsyncClient(base_url=house.url, timeout=None) as client:
            more = {"max_tokens": 100, "ignore_eos": True, "temperature": 0}
            whole = (await chat(client, "one", **more)).json()["choices"][0]["message"]["content"]
            await homes(house, 1)
            [holder] = [card for card, _ in await presence.workers(house.redis) if card.models]
            answer = await caught(client, house, workers[holder.pid], more)
        assert answer.json()["choices"][0]["message"]["content"] == whole
        assert answer.json()["usage"]["completion_tokens"] == 100
        assert len(events(house, "model.adopted")) >= 2


async def caught(
    client: httpx.AsyncClient, house: Fleet, worker: subprocess.Popen[bytes], more: dict[str, Any]
) -> httpx.Response:
    """An answer whose worker was killed in the middle of it; asked again if it was too fast."""
    while True:
        asking = asyncio.create_task(chat(client, "one", **more))
        job = await running(house)
        while await bus.last_number(house.redis, job) < 20:
            await asyncio.sleep(0.01)
        await stopped(house, worker)
        if await Queue(house.redis).state(job) == "running":
            house.end(worker)
            return await asking
        worker.send_signal(signal.SIGCONT)
        await asking


async def stopped(house: Fleet, worker: subprocess.Popen[bytes]) -> None:
    """Stand still; what was on its way to Redis has arrived."""
    worker.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WNOWAIT)
    await house.redis.ping()


async def running(house: Fleet) -> str:
    """The job that runs, once there is one."""
    while not (jobs := await house.redis.zrange(keys.leases("ai/one:latest"), 0, -1)):
        await asyncio.sleep(0.01)
    return str(jobs[0].decode())
