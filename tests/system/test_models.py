"""A model's way through a real fleet: from the default file to a registry, back, and answering."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import httpx
import pytest

from shared import presence, refs
from tests.api.storehouse import lines
from tests.model.tiny_gguf import write_gemma3
from tests.registry import run_registry
from tests.system.fleet import CHAT, body, fleet
from workers.models.remote.options import RemoteOptions
from workers.models.remote.push import open_pushes
from workers.models.store.package import package
from workers.models.store.store import open_store

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.model, pytest.mark.timeout(180)]


async def test_the_default_model_pushed_deleted_pulled_asked(tmp_path: Path) -> None:
    with run_registry(tmp_path) as registry:
        async with fleet(store_dir=str(tmp_path / "store"), docker_config="") as house:
            house.worker(pool=1)
            house.api()
            async with httpx.AsyncClient(base_url=house.url, timeout=120) as client:
                await started(client)
                await travel(client, f"{registry}/team/smollm2")


async def started(client: httpx.AsyncClient) -> None:
    """Until a worker offers its file; it loads it when it is asked."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if (await client.get("/models/smollm2")).status_code == 200:
                return
        await asyncio.sleep(0.1)


async def test_another_host_pulls_it_when_it_is_needed(tmp_path: Path) -> None:
    """One host pulls and goes away; the other, with a store of its own, brings it from there."""
    with run_registry(tmp_path) as registry:
        name, model_id = await published(registry, tmp_path)
        more = {"model": "", "pool": "true", "slots": 2, "context": 64, "docker_config": ""}
        async with fleet(**more) as house:
            house.api()
            first = house.worker(store_dir=tmp_path / "first")
            async with httpx.AsyncClient(base_url=house.url, timeout=None) as client:
                await with_a_store(client)
                pulled = lines(await client.post("/models/create", json={"from": name}))
                assert pulled[-1]["message"] == "Model pulled successfully"
                house.worker(store_dir=tmp_path / "second")
                house.end(first, signal.SIGTERM)
                ask = {"model": name, "prompt": "Hi", "max_tokens": 2}
                answer = await client.post("/v1/completions", json=ask)
                assert answer.status_code == 200, answer.text
            card = await presence.model(house.redis, refs.normalize(name))
    assert card is not None
    assert len(card.stores) == 2
    assert open_store(tmp_path / "second").get(name).id == model_id


async def published(registry: str, folder: Path) -> tuple[str, str]:
    """A tiny model at the registry: its name and ID."""
    store, name = open_store(folder / "source"), f"{registry}/org/tiny:v1"
    model = package(store, [write_gemma3(folder / "tiny.gguf")], name)
    async with open_pushes(store, RemoteOptions()) as pushes:
        async for _ in pushes.push(name):
            continue
    return name, model.id


async def with_a_store(client: httpx.AsyncClient) -> None:
    """Return once a worker with a store is there."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if (await client.post("/models/load", content=b"no tar")).status_code == 400:
                return
        await asyncio.sleep(0.05)


async def travel(client: httpx.AsyncClient, name: str) -> None:
    cached = lines(await client.post("/models/create", json={"from": "smollm2"}))
    assert "Using cached model" in cached[0]["message"]  # the worker's own file
    refused = await client.delete("/models/smollm2")
    assert refused.status_code == 409

    tagged = await client.post("/models/smollm2/tag", params={"repo": name, "tag": "v1"})
    assert tagged.status_code == 201, tagged.text
    pushed = lines(await client.post(f"/models/{name}:v1/push"))
    assert pushed[-1]["type"] == "success", pushed[-1]
    model = (await client.get(f"/models/{name}:v1")).json()
    assert set(model["tags"]) == {"ai/smollm2:latest", f"{name}:v1"}
    assert model["config"]["parameters"] == "134.52M"
    assert (await client.delete(f"/models/{model['id']}?force=true")).status_code == 200
    left = (await client.get("/models")).json()
    assert [one["tags"] for one in left] == [["ai/smollm2:latest"]]  # the file is still there

    pulled = lines(await client.post("/models/create", json={"from": f"{name}:v1"}))
    assert pulled[-1]["message"] == "Model pulled successfully"
    assert (await client.get(f"/models/{name}:v1")).json()["id"] == model["id"]
    for asked in ("ai/smollm2", f"{name}:v1", model["id"][7:19]):
        request = {**body("Say hi.", max_tokens=4, temperature=0), "model": asked}
        answer = await client.post(CHAT, json=request)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
    shown = (await client.post("/api/show", json={"model": f"{name}:v1"})).json()
    assert shown["model_info"]["llama.block_count"] == 30
