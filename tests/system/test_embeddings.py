"""Embeddings end to end: HTTP, queue, a worker with an embedding model beside a generating one."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from deploy import embedding_model
from tests.model.bert import Bert
from tests.system.fleet import MODEL, fleet

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(240)]

MINILM = "ai/all-minilm"
TEXTS = ["A cat sleeps on the sofa.", "Ein Kätzchen schläft.", "Stock prices fell on Monday."]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Of an api with one worker that serves both models."""
    if not embedding_model.model().exists():
        pytest.skip("`python -m deploy.embedding_model` makes all-MiniLM-L6-v2")
    async with fleet(model=f"{MODEL},{MINILM}={embedding_model.model()}") as house:
        house.api()
        house.worker()
        await house.ready()
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as opened:
            await both_there(opened)
            yield opened


async def both_there(client: httpx.AsyncClient) -> None:
    """Return once the worker has loaded both models."""
    while True:
        ready = (await client.get("/ready")).json()
        if len(ready["models"]) == 2:
            return
        await asyncio.sleep(0.05)


@pytest.mark.asyncio(loop_scope="module")
async def test_embeddings_are_the_models_own(client: httpx.AsyncClient) -> None:
    bert = Bert(embedding_model.folder())
    answer = await client.post("/v1/embeddings", json={"model": MINILM, "input": TEXTS})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    assert told["usage"]["prompt_tokens"] == sum(len(bert.tokens(text)) for text in TEXTS)
    assert [one["index"] for one in told["data"]] == [0, 1, 2]
    for text, one in zip(TEXTS, told["data"], strict=True):
        assert float(np.array(one["embedding"]) @ bert.embed(text)) >= 0.999, text


@pytest.mark.asyncio(loop_scope="module")
async def test_base64_says_the_same_numbers(client: httpx.AsyncClient) -> None:
    asked = {"model": MINILM, "input": TEXTS[0], "dimensions": 64}
    plain = await client.post("/v1/embeddings", json=asked)
    packed = await client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"})
    numbers = np.frombuffer(base64.b64decode(packed.json()["data"][0]["embedding"]), np.float32)
    assert numbers.shape == (64,)
    assert np.allclose(numbers, plain.json()["data"][0]["embedding"], atol=1e-6)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("model", [MODEL, MINILM])
async def test_what_cannot_rank_says_so(client: httpx.AsyncClient, model: str) -> None:
    asked = {"model": model, "query": "cats", "documents": TEXTS}
    answer = await client.post("/engines/v1/rerank", json=asked)
    assert answer.status_code == 400, answer.text
    assert "cannot rank" in answer.text


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_chat_says_so(client: httpx.AsyncClient) -> None:
    asked = {"model": MINILM, "messages": [{"role": "user", "content": "hi"}]}
    answer = await client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 400, answer.text
