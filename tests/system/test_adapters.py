"""LoRA adapters end to end: named by requests, listed, refused, and kept when a worker dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.model.lora import write_lora
from tests.model.tiny_gguf import write_plain
from tests.system.fleet import CHAT, REF, Fleet, body, content_of, fleet
from tests.workers.real_vocab import MODEL as FILE

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(120)]

TINY = "tiny/plain:latest"
LONG = 60


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house() -> AsyncIterator[Fleet]:
    """An api and a worker with two models; the adapter fits the first."""
    if not FILE.exists():
        pytest.skip(f"{FILE} is not there")
    with tempfile.TemporaryDirectory() as folder:
        style = write_lora(Path(folder) / "style.gguf")
        tiny = write_plain(Path(folder) / "tiny.gguf")
        async with fleet(
            model=f"{REF}={FILE},{TINY}={tiny}",
            adapters=f"{REF}:style={style},{TINY}:style={style}",
            pool="true",
            cells=2048,
            slots=4,
            lease_ms=1000,
            docker_config="",
        ) as house:
            house.api()
            house.worker()
            await offered(house, models=2)
            yield house


async def offered(house: Fleet, *, models: int) -> None:
    """Return once the api and a worker of the pool are there, which offers so many models."""
    async with httpx.AsyncClient(base_url=house.url) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                ready, found = await client.get("/ready"), await client.get("/v1/models")
                if ready.status_code == 200 and len(found.json()["data"]) == models:
                    return
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        yield client


def asked(*lora: dict[str, Any], **more: Any) -> dict[str, Any]:
    return body("Tell me a story.", temperature=0, max_tokens=12, **more) | {"lora": lora}


async def text(client: httpx.AsyncClient, request: dict[str, Any]) -> str:
    got = await client.post(CHAT, json=request)
    assert got.status_code == 200, got.text
    said: str = got.json()["choices"][0]["message"]["content"]
    return said


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_names_what_it_wants(client: httpx.AsyncClient) -> None:
    plain = await text(client, asked())
    style = await text(client, asked({"name": "style", "scale": 1}))
    assert style != plain
    assert await text(client, asked({"id": 0, "scale": 1})) == style
    assert await text(client, asked({"name": "style", "scale": 0})) == plain


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_there_is_listed_and_what_is_not_is_a_400(client: httpx.AsyncClient) -> None:
    await text(client, asked())
    there = (await client.get("/lora-adapters")).json()
    assert there == [{"id": 0, "name": "style", "model": REF, "scale": 0.0}]
    for stream in (False, True):
        refused = await client.post(CHAT, json=asked({"id": 1, "scale": 1}, stream=stream))
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["param"] == "lora"
        assert "'style' (id 0)" in error["message"]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_adapter_that_does_not_fit_is_named_and_the_worker_lives(
    house: Fleet, client: httpx.AsyncClient
) -> None:
    failed = await client.post(CHAT, json={**asked(), "model": TINY})
    assert failed.status_code == 500
    assert "the adapter 'style'" in failed.json()["error"]["message"]
    assert "style.gguf" in failed.json()["error"]["message"]
    await text(client, asked())
    assert all(process.poll() is None for process in house.processes)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stream_with_an_adapter_goes_on_elsewhere(
    house: Fleet, client: httpx.AsyncClient
) -> None:
    more = {"ignore_eos": True, "stream_options": {"include_usage": True}}
    request = asked({"name": "style", "scale": 1}, stream=True, **more) | {"max_tokens": LONG}
    pieces: list[str] = []
    used: dict[str, Any] = {}
    async with client.stream("POST", CHAT, json=request) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            pieces += content_of(line.removeprefix("data: "))
            used = json.loads(line.removeprefix("data: ")).get("usage") or used
            if len(pieces) == 14:
                house.end(house.processes[-1])
                house.worker()
    assert used["completion_tokens"] == LONG
    assert "".join(pieces).startswith(await text(client, asked({"name": "style", "scale": 1})))
