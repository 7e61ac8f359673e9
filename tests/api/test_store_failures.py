"""Remotes that fail, clients that leave, requests that cannot be: what HTTP says, what is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

from api.fleet import Fleet
from shared import keys, presence
from shared.presence import LoadedModel, WorkerCard
from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.storehouse import Storehouse, hasty, keeping, lines, storehouse
from tests.workers.models.store.files import add_model, gguf_bytes, whole_blobs
from tests.workers.models.store.loopback import Answer, Asked, Play, registry_of
from tests.workers.models.store.loopback import serve as serve_remote
from workers.models.store.manifest import parse
from workers.models.store.store import open_store

pytestmark = pytest.mark.redis
SIZE = 3_000_000


@pytest.fixture
async def house(real_redis: ArqRedis, settings: Settings) -> AsyncIterator[Storehouse]:
    async with storehouse(real_redis, hasty(settings)) as house:
        yield house


class Remote:
    """A registry with one model, and what it does at a kind of path instead."""

    def __init__(self, folder: Path) -> None:
        store = open_store(folder / "remote")
        self.model = add_model(store, folder, "m", size=SIZE)
        self.honest = registry_of(store, self.model.id)
        self.weights = parse(store.manifest_raw(self.model.id)).layers[0].digest

    def but(self, part: str, answer: Answer) -> Play:
        return lambda asked: answer if part in asked.path else self.honest(asked)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        (401, 401, "unauthorized"),
        (403, 401, "unauthorized"),
        (404, 404, "model_not_found"),
        (429, 429, "remote_rate_limit"),
        (500, 502, "remote_unavailable"),
        (503, 502, "remote_unavailable"),
    ],
)
async def test_a_registry_s_status_is_ours(
    house: Storehouse, remote: Remote, given: int, status: int, code: str
) -> None:
    with serve_remote(remote.but("/manifests/", Answer(status=given))) as server:
        answer = await house.create(f"{server.host}/org/m")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert house.store.all() == []
    assert whole_blobs(house.store) == []


async def test_what_is_no_model_is_422(house: Storehouse, remote: Remote) -> None:
    def image(asked: Asked) -> Answer:
        answer = remote.honest(asked)
        if "/manifests/" not in asked.path:
            return answer
        manifest = msgspec.json.decode(answer.body)
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        return Answer(body=msgspec.json.encode(manifest), headers=answer.headers)

    with serve_remote(image) as server:
        answer = await house.create(f"{server.host}/org/m")
    assert answer.status_code == 422
    assert "is not supported (supported:" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["", "  ", "A B", "ai/UPPER name", "sha256:" + "0" * 64, "a//b"])
async def test_what_is_no_name_is_400(house: Storehouse, name: str) -> None:
    assert (await house.create(name)).status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b'{"from": 3}', b'{"from": "m", "colour": "red"}'])
async def test_what_is_no_body_is_400(house: Storehouse, body: bytes) -> None:
    assert (await house.client.post("/models/create", content=body)).status_code == 400


async def test_cut_bytes_end_the_stream_with_an_error_and_are_resumed(
    house: Storehouse, remote: Remote
) -> None:
    part = remote.weights.removeprefix("sha256:")
    cut = Answer(body=bytes(SIZE), headers={"Content-Length": str(SIZE)}, cut=0)
    with serve_remote(remote.but(part, cut)) as server:
        name = f"{server.host}/org/m"
        told = lines(await house.create(name))
    assert told[-1]["type"] == "error"
    assert house.store.all() == []
    with serve_remote(remote.honest) as server:
        again = lines(await house.create(f"{server.host}/org/m"))
    assert again[-1]["type"] == "success"
    assert house.store.get(f"{server.host}/org/m").id == remote.model.id


async def test_wrong_bytes_are_an_error_and_gone(house: Storehouse, remote: Remote) -> None:
    part = remote.weights.removeprefix("sha256:")
    size = len(gguf_bytes(SIZE, seed="a"))
    with serve_remote(remote.but(part, Answer(body=b"x" * size))) as server:
        told = lines(await house.create(f"{server.host}/org/m"))
    assert told[-1]["type"] == "error"
    assert "wrong bytes" in told[-1]["message"]
    assert house.store.all() == []
    assert part not in whole_blobs(house.store)


async def test_a_client_that_leaves_ends_its_pull_but_not_another_s(
    house: Storehouse, remote: Remote
) -> None:
    """Two watch one transfer that stands still at half; one leaves, the other sees the end."""
    part, whole = remote.weights.removeprefix("sha256:"), gguf_bytes(SIZE, seed="a")
    standing, going = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def play(asked: Asked) -> Answer:
        if part in asked.path and not going.is_set():
            loop.call_soon_threadsafe(standing.set)
            asyncio.run_coroutine_threadsafe(going.wait(), loop).result()
        return remote.honest(asked)

    with serve_remote(play) as server:
        name = f"{server.host}/org/m"
        async with serve(house.app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
            first = asyncio.create_task(client.post("/models/create", json={"from": name}))
            await standing.wait()
            async with client.stream("POST", "/models/create", json={"from": name}) as second:
                told = second.aiter_lines()
                assert "progress" in await anext(told)  # it watches the transfer
                first.cancel()
                while len(house.keeper.running) > 1:
                    await asyncio.sleep(0.01)
                going.set()
                assert "success" in [line async for line in told][-1]
        assert server.count(f"GET /v2/org/m/blobs/{remote.weights}") == 1
    assert house.store.bundle(name).model.read_bytes() == whole


async def test_two_pulls_at_once_and_the_third_waits(house: Storehouse, remote: Remote) -> None:
    going, standing = asyncio.Event(), asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    def play(asked: Asked) -> Answer:
        if "/manifests/" in asked.path and not going.is_set():
            loop.call_soon_threadsafe(standing.release)
            asyncio.run_coroutine_threadsafe(going.wait(), loop).result()
        return remote.honest(asked)

    with serve_remote(play) as server:
        names = [f"{server.host}/org/m{number}" for number in range(3)]
        pulling = [asyncio.create_task(house.create(name)) for name in names]
        for _ in range(2):
            await standing.acquire()
        while len(house.keeper.running) < 3:
            await asyncio.sleep(0.01)
        assert server.count("/manifests/") == 2
        going.set()
        for answer in await asyncio.gather(*pulling):
            assert lines(answer)[-1]["type"] == "success"
        assert server.count("/manifests/") == 3
    assert len(house.store.get(names[0]).tags) == 3


async def test_a_worker_that_stops_hands_its_pull_to_another(
    house: Storehouse, remote: Remote, real_redis: ArqRedis, settings: Settings
) -> None:
    part = remote.weights.removeprefix("sha256:")
    standing, going = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def play(asked: Asked) -> Answer:
        if part in asked.path and not going.is_set():
            loop.call_soon_threadsafe(standing.set)
            asyncio.run_coroutine_threadsafe(going.wait(), loop).result()
        return remote.honest(asked)

    with serve_remote(play) as server:
        pulling = asyncio.create_task(house.create(f"{server.host}/org/m"))
        await standing.wait()
        await house.keeper.drain(timeout_s=0)
        while house.keeper.running:
            await asyncio.sleep(0.01)
        going.set()
        async with keeping(real_redis, hasty(settings)):
            assert lines(await pulling)[-1]["type"] == "success"
    assert house.store.get(f"{server.host}/org/m").id == remote.model.id


async def test_pull_from_a_file_below_the_roots(
    house: Storehouse, settings: Settings, tmp_path: Path
) -> None:
    roots = settings.home / "roots"
    roots.mkdir()
    (roots / "My.gguf").write_bytes(gguf_bytes(seed="f"))
    (tmp_path / "other.gguf").write_bytes(gguf_bytes(seed="g"))
    assert lines(await house.create(f"file:{roots}/My.gguf"))[-1]["type"] == "success"
    assert (await house.client.get("/models/my")).status_code == 200
    refused = await house.create(f"file:{tmp_path}/other.gguf")
    assert refused.status_code == 400
    (roots / "broken.gguf").write_bytes(b"no model")
    assert (await house.create(f"file:{roots}/broken.gguf")).status_code == 422


async def test_without_a_worker_it_is_said(house: Storehouse, real_redis: ArqRedis) -> None:
    await real_redis.delete("caravan:worker:w1")
    for answer in (
        await house.create("m"),
        await house.client.post("/models/load", content=b"x"),
        await house.client.delete("/models/purge"),
    ):
        assert answer.status_code == 503
        assert "no worker with a model store" in answer.json()["error"]["message"]


async def test_models_of_hosts_that_are_away(
    house: Storehouse, real_redis: ArqRedis, tmp_path: Path
) -> None:
    await house.add(tmp_path, "m")
    await real_redis.delete("caravan:worker:w1")
    assert (await house.client.get("/models/m")).status_code == 200
    assert (await house.client.delete("/models/m")).status_code == 503


async def test_a_stored_model_that_no_worker_would_serve(
    house: Storehouse, real_redis: ArqRedis, tmp_path: Path
) -> None:
    """It is said at once, until a worker of the pool is there; with no worker at all it waits."""
    await house.add(tmp_path, "m")
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    own = WorkerCard(
        id="w2",
        host="here",
        pid=2,
        device="cpu",
        started_ms=0,
        models=(LoadedModel(model="ai/own:latest"),),
    )
    await presence.show(real_redis, own)
    await real_redis.expire(keys.worker("w2"), 600)
    house.app.service.fleet = Fleet(real_redis)
    answer = await house.client.post("/v1/chat/completions", json=ask)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "model_load_failed")
    assert "CARAVAN_POOL=true" in error["message"]

    restarting = Fleet(real_redis)
    restarting._seen["ai/m:latest"] = time.monotonic()
    await restarting.require_home("ai/m:latest")
    for there in (msgspec.structs.replace(own, models=(), pool=True), None):
        await presence.leave(real_redis, "w2")
        if there:
            await presence.show(real_redis, there)
        await Fleet(real_redis).require_home("ai/m:latest")
