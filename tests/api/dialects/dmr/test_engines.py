"""/engines/… as Docker Model Runner's clients use it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

from api import orders
from api.dialects.dmr.answers import members
from api.durations import written
from shared import codec, keys, presence
from shared.control import Unload
from shared.model_config import ModelConfig
from shared.presence import LoadedModel, WorkerCard
from shared.requests import Generate, Thinking
from tests.api.caller import chat
from tests.api.fleet import CARD, MODEL, FakeWorker, said

IDLE = LoadedModel(model=MODEL, last_used_ms=1_700_000_000_000)
BUSY = LoadedModel(model=MODEL, slots_busy=1, last_used_ms=5, keep_alive_s=-1)


async def show(redis: ArqRedis, *models: LoadedModel, worker: str = "w1") -> None:
    card = WorkerCard(id=worker, host="here", pid=1, device="cpu", started_ms=0, models=models)
    await presence.show(redis, card)


async def test_status_names_every_engine(client: httpx.AsyncClient, fake_redis: ArqRedis) -> None:
    found = (await client.get("/engines/status")).json()
    assert found["llama.cpp"] == "Running: 1 worker on cpu"
    assert found["vllm"] == "Not Installed"
    await presence.leave(fake_redis, "w1")
    assert (await client.get("/engines/status")).json()["llama.cpp"].startswith("Error: ")


async def test_ps_lists_every_holder(client: httpx.AsyncClient, fake_redis: ArqRedis) -> None:
    await show(fake_redis, IDLE)
    await show(fake_redis, BUSY, LoadedModel(model="ai/x:latest", state="loading"), worker="w2")
    first, second, third = (await client.get("/engines/ps")).json()
    same = {"backend_name": "llama.cpp", "model_name": MODEL, "mode": "completion"}
    assert first == {**same, "last_used": "2023-11-14T22:13:20Z"}
    assert second == {
        **same,
        "last_used": "0001-01-01T00:00:00Z",
        "in_use": True,
        "keep_alive": "-1",
    }
    assert (third["model_name"], third["loading"]) == ("ai/x:latest", True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300, "5m0s"), (5400, "1h30m0s"), (30, "30s"), (86400, "24h0m0s"), (0, "0s"), (-1, "-1")],
)
def test_durations_are_go_s(seconds: float, text: str) -> None:
    assert written(seconds) == text


async def test_df_counts_each_model_once(client: httpx.AsyncClient, fake_redis: ArqRedis) -> None:
    await presence.add_model(fake_redis, msgspec.structs.replace(CARD, ref="ai/same:latest"))
    assert (await client.get("/engines/df")).json() == {
        "models_disk_usage": CARD.size,
        "default_backend_disk_usage": 0,
    }


async def unloading(redis: ArqRedis, told: list[str]) -> None:
    """A worker that does as it is told."""
    channel = redis.pubsub()
    await channel.subscribe(keys.CONTROL)
    async for message in channel.listen():
        if message["type"] == "message":
            order = codec.decode_control(message["data"])
            if isinstance(order, Unload):
                told.append(order.model)
                await show(redis)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"all": True}, 1),
        ({"models": ["smollm2"]}, 1),
        ({"models": ["smollm2"], "backend": "llama.cpp"}, 1),
        ({"models": ["other"]}, 0),
        ({"models": []}, 0),
        ({"all": True, "backend": "vllm"}, 0),
    ],
)
async def test_unload_counts_who_let_go(
    client: httpx.AsyncClient, fake_redis: ArqRedis, asked: dict[str, Any], count: int
) -> None:
    told: list[str] = []
    worker = asyncio.create_task(unloading(ArqRedis(fake_redis.connection_pool), told))
    while not (await fake_redis.pubsub_numsub(keys.CONTROL))[0][1]:
        await asyncio.sleep(0.005)
    answer = await client.post("/engines/unload", json=asked)
    worker.cancel()
    assert answer.json() == {"unloaded_runners": count}
    assert told == [MODEL] * count


async def test_who_keeps_its_model_is_not_counted(
    client: httpx.AsyncClient, fake_redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "UNLOAD_WAIT_S", 0.1)
    answer = await client.post("/engines/unload", json={"all": True})
    assert answer.json() == {"unloaded_runners": 0}
    await show(fake_redis, BUSY)
    answer = await client.post("/engines/unload", json={"all": True})
    assert answer.json() == {"unloaded_runners": 0}


@pytest.mark.parametrize("path", ["/engines/_configure", "/engines/llama.cpp/_configure"])
async def test_a_configuration_is_kept_and_applied(
    client: httpx.AsyncClient, worker: FakeWorker, path: str
) -> None:
    for budget in (7, 0, -1):
        asked = {"model": "smollm2", "llamacpp": {"reasoning-budget": budget}, "runtime-flags": []}
        answer = await client.post(path, json=asked)
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await client.post(path, json={"model": "smollm2"})).status_code == 202  # no change
        (entry,) = (await client.get("/engines/_configure?model=smollm2")).json()
        assert entry == {
            "Backend": "llama.cpp",
            "Model": MODEL,
            "ModelID": CARD.digest,
            "Mode": "completion",
            "Config": {"llamacpp": {"reasoning-budget": budget}},
        }
        async with worker.serving(lambda _: said("ok")):
            await client.post("/v1/chat/completions", json=chat())
            await client.post("/v1/chat/completions", json=chat(reasoning_effort="low"))
    thoughts = [one.input.thinking for one in worker.taken if isinstance(one, Generate)]  # type: ignore[union-attr]
    low = Thinking(enabled=True, effort="low")
    assert thoughts == [Thinking(budget=7), low, Thinking(enabled=False), low, Thinking(), low]
    assert (await client.get("/engines/_configure?model=other")).json() == []


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ({"context-size": 4096}, {"context-size": 4096}),
        ({"context-size": -1}, {"context-size": 0}),
        ({"keep_alive": "1h30m"}, {"keep_alive": "1h30m0s"}),
        ({"keep_alive": "-1m"}, {"keep_alive": "-1"}),
        ({"keep_alive": "0"}, {"keep_alive": "0s"}),
        ({"runtime-flags": ["--ctx-size", "512"], "context-size": 9}, {"context-size": 512}),
        ({"runtime-flags": ["-np=2", "-t", "-1"]}, {"caravan": {"slots": 2, "threads": 0}}),
        (
            {"raw-runtime-flags": "-ngl 0 -b '64'"},
            {"caravan": {"gpu_layers": 0, "prefill_budget": 64}},
        ),
        (
            {"runtime-flags": ["-ctk", "q8_0", "--cache-type-v=q4_0", "-fa", "on"]},
            {
                "caravan": {
                    "cache_type_k": "q8_0",
                    "cache_type_v": "q4_0",
                    "flash_attention": "on",
                }
            },
        ),
        (
            {"raw-runtime-flags": "--cache-type-k bf16 --flash-attn off"},
            {"caravan": {"cache_type_k": "bf16", "flash_attention": "off"}},
        ),
        ({"runtime-flags": ["--draft-max", "0"]}, {"caravan": {"draft_max": 0}}),
        ({"runtime-flags": ["-c", "8"], "raw-runtime-flags": "-c 9"}, {"context-size": 8}),
        ({"raw-runtime-flags": "--reasoning-budget 0"}, {"llamacpp": {"reasoning-budget": 0}}),
        ({"mode": "embedding", "context-size": 8}, {"context-size": 8}),
    ],
)
async def test_what_a_worker_can_honour_is_kept(
    client: httpx.AsyncClient, given: dict[str, Any], config: dict[str, Any]
) -> None:
    answer = await client.post("/engines/_configure", json={"model": "smollm2", **given})
    assert answer.status_code == 202
    (entry,) = (await client.get("/engines/_configure")).json()
    assert entry["Config"] == config


async def test_configurations_are_merged_field_by_field(client: httpx.AsyncClient) -> None:
    for given in ({"context-size": 512}, {"keep_alive": "5m"}, {"runtime-flags": ["-np", "2"]}):
        await client.post("/engines/_configure", json={"model": "smollm2", **given})
    (entry,) = (await client.get("/engines/_configure")).json()
    kept = {"context-size": 512, "keep_alive": "5m0s", "caravan": {"slots": 2}}
    assert entry["Config"] == kept


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"runtime-flags": ["--ctx-size", "512", "--mmproj", "x"]}, "'--mmproj'"),
        ({"runtime-flags": ["--x=--y"]}, "'--x'"),
        ({"runtime-flags": ["../x"]}, "'../x'"),
        ({"runtime-flags": ["-c", "many"]}, "-c cannot be 'many'"),
        ({"runtime-flags": ["-c"]}, "-c cannot be ''"),
        ({"runtime-flags": ["--parallel=-1"]}, "--parallel cannot be '-1'"),
        ({"raw-runtime-flags": "--temp 0.5"}, "'--temp'"),
        ({"raw-runtime-flags": "-ctk q5_1"}, "-ctk cannot be 'q5_1'"),
        ({"raw-runtime-flags": "--flash-attn"}, "--flash-attn cannot be ''"),
        ({"runtime-flags": ["-fa", "-ctv", "q8_0"]}, "-fa cannot be '-ctv'"),
        ({"raw-runtime-flags": "-c '512"}, "quotation"),
    ],
)
async def test_other_flags_are_refused_by_name(
    client: httpx.AsyncClient, given: dict[str, Any], word: str
) -> None:
    answer = await client.post("/engines/_configure", json={"model": "smollm2", **given})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, next(iter(given)))
    assert word in error["message"]
    assert (await client.get("/engines/_configure")).json() == []


async def test_what_does_not_go_together_is_refused(client: httpx.AsyncClient) -> None:
    words = ["-ctv", "q8_0", "-fa", "off"]
    asked = {"model": "smollm2", "runtime-flags": words}
    answer = await client.post("/engines/_configure", json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "flash_attention")
    assert "q8_0 need flash attention" in error["message"]
    assert (await client.get("/engines/_configure")).json() == []


def test_a_configuration_has_docker_s_names() -> None:
    config = ModelConfig(context_size=512, keep_alive_s=-1, reasoning_budget=0, slots=2)
    assert members(config) == {
        "context-size": 512,
        "keep_alive": "-1",
        "llamacpp": {"reasoning-budget": 0},
        "caravan": {"slots": 2},
    }


async def test_unload_forgets_configurations_as_docker_does(
    client: httpx.AsyncClient, fake_redis: ArqRedis
) -> None:
    await show(fake_redis)
    asked = {"model": "smollm2", "llamacpp": {"reasoning-budget": 7}}
    for unload, left in (
        ({"models": ["smollm2"]}, 1),
        ({"models": ["smollm2"], "backend": "llama.cpp"}, 0),
        ({"all": True}, 0),
    ):
        await client.post("/engines/_configure", json=asked)
        await client.post("/engines/unload", json=unload)
        assert len((await client.get("/engines/_configure")).json()) == left


@pytest.mark.parametrize(
    ("path", "asked", "status", "word"),
    [
        ("/engines/_configure", {"model": "m", "context-size": -2}, 400, "context-size"),
        ("/engines/_configure", {"model": "m", "keep_alive": "abc"}, 400, "keep_alive"),
        ("/engines/_configure", {"model": "m", "keep_alive": ""}, 400, "keep_alive"),
        ("/engines/_configure", {"model": "m", "keep_alive": 5}, 400, "keep_alive"),
        ("/engines/_configure", {"model": "m", "mode": "image-generation"}, 400, "mode"),
        ("/engines/_configure", {"model": "m", "speculative": {"draft_model": "d"}}, 400, "specul"),
        ("/engines/_configure", {"model": "m", "vllm": {"hf-overrides": {}}}, 400, "vllm"),
        ("/engines/_configure", {"model": "m", "colour": "red"}, 400, "colour"),
        ("/engines/_configure", {}, 400, "model is required"),
        ("/engines/vllm/_configure", {"model": "m"}, 404, "backend not found"),
        ("/engines/unload", {"colour": "red"}, 400, "colour"),
        ("/engines/install-backend", {"backend": "llama.cpp"}, 200, ""),
        ("/engines/install-backend", {"backend": "llama.cpp", "version": "b1"}, 400, "version"),
        ("/engines/install-backend", {"backend": "vllm"}, 404, "backend not found"),
        ("/engines/install-backend", {}, 400, "backend is required"),
        ("/engines/uninstall-backend", {"backend": "llama.cpp"}, 501, "part of the workers"),
        ("/engines/uninstall-backend", {"backend": "vllm"}, 404, "backend not found"),
    ],
)
async def test_what_is_answered(
    client: httpx.AsyncClient, path: str, asked: dict[str, Any], status: int, word: str
) -> None:
    answer = await client.post(path, json=asked)
    assert answer.status_code == status
    if word:
        assert word in answer.json()["error"]["message"]
    else:
        assert answer.content == b""


async def test_version_and_logs(client: httpx.AsyncClient) -> None:
    assert (await client.get("/version")).json()["version"]
    answer = await client.get("/logs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_implemented")
