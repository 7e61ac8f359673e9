"""Images end to end: HTTP, queue, a worker with a projector, its death, its successor."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.model.tiny_gguf import write_plain
from tests.model.tiny_vision import png, write_llava
from tests.system.fleet import CHAT, Fleet, content_of, fleet

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(120)]

SEES, BLIND = "tiny/sees", "tiny/blind"
CONTEXT = {"llama.context_length": 4096}
LONG = 1500


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house() -> AsyncIterator[Fleet]:
    """An api, and a worker that serves a model with a projector and one without."""
    with tempfile.TemporaryDirectory() as folder:
        model, projector = write_llava(Path(folder), **CONTEXT)
        blind = write_plain(Path(folder) / "blind.gguf")
        models = f"{SEES}={model}+{projector},{BLIND}={blind}"
        # Weights of the tiny model are F32: a guess beside a token would change its numbers.
        numbers = {"exact": True, "draft_max": 0, "threads": 1}
        async with fleet(model=models, slots=4, lease_ms=1000, **numbers) as house:
            house.api()
            house.worker()
            await house.ready()
            yield house


def asked(look: int, /, **more: Any) -> dict[str, Any]:
    uri = f"data:image/png;base64,{base64.b64encode(png(look)).decode()}"
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": uri}},
    ]
    messages = [{"role": "user", "content": content}]
    return {"model": SEES, "messages": messages, "temperature": 0, "max_tokens": 20, **more}


async def answer(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    got = await client.post(CHAT, json=body)
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


@pytest.mark.asyncio(loop_scope="module")
async def test_an_image_is_seen_and_counted(house: Fleet) -> None:
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        one, same, other = [await answer(client, asked(look)) for look in (1, 1, 2)]
    texts = [it["choices"][0]["message"]["content"] for it in (one, same, other)]
    assert texts[0] == texts[1] != texts[2]
    assert one["usage"]["prompt_tokens"] > 16


@pytest.mark.asyncio(loop_scope="module")
async def test_the_catalog_says_who_sees(house: Fleet) -> None:
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        shown = [await client.post("/api/show", json={"model": it}) for it in (SEES, BLIND)]
        assert ["vision" in it.json()["capabilities"] for it in shown] == [True, False]
        refused = await client.post(CHAT, json=asked(1, model=BLIND))
    assert refused.status_code == 400
    assert "text only, not image" in refused.text


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_image_is_a_400_and_nobody_dies(house: Fleet) -> None:
    body = asked(1)
    uri = f"data:image/png;base64,{base64.b64encode(png(1)[:-40]).decode()}"
    body["messages"][0]["content"][1]["image_url"]["url"] = uri
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        refused = await client.post(CHAT, json=body)
        assert refused.status_code == 400
        assert "cut short" in refused.text
        await answer(client, asked(1))
    assert all(process.poll() is None for process in house.processes)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stream_with_an_image_survives_its_worker(house: Fleet) -> None:
    body = asked(3, max_tokens=LONG, seed=5, temperature=1, ignore_eos=True)
    async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
        undisturbed = (await answer(client, body))["choices"][0]["message"]["content"]
        pieces: list[str] = []
        async with client.stream("POST", CHAT, json={**body, "stream": True}) as stream:
            async for line in stream.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                pieces += content_of(line.removeprefix("data: "))
                if len(pieces) == 1:
                    house.end(house.processes[-1])
                    house.worker()
    assert "".join(pieces) == undisturbed
