"""X-Preload-Only: the model is loaded, nothing is answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.events import Finished, Tokens
from shared.requests import Prompt, Tokenize
from tests.api.caller import chat
from tests.api.fleet import MODEL, FakeWorker, said

ONLY = {"x-preload-only": "true"}
LOADED = (Tokens(), Finished())


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/engines/llama.cpp/v1/chat/completions", chat()),
        ("/v1/embeddings", {"model": "smollm2"}),
        ("/v1/responses", {"model": "ai/smollm2:latest", "anything": 1}),
        ("/anthropic/v1/messages", {"model": "docker.io/ai/smollm2"}),
        ("/api/chat", {"name": "smollm2"}),
    ],
)
async def test_only_the_model_is_loaded(
    client: httpx.AsyncClient, worker: FakeWorker, path: str, asked: dict[str, Any]
) -> None:
    async with worker.serving(lambda _: LOADED):
        answer = await client.post(path, json=asked, headers=ONLY)
    assert (answer.status_code, answer.content) == (200, b"")
    (load,) = worker.taken
    assert isinstance(load, Tokenize)
    assert (load.model, load.input) == (MODEL, Prompt(text=""))


async def test_what_is_wrong_is_said_as_the_path_s_clients_expect(
    client: httpx.AsyncClient,
) -> None:
    unknown = await client.post("/anthropic/v1/messages", json={"model": "x"}, headers=ONLY)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "error")
    nothing = await client.post("/v1/responses", json={}, headers=ONLY)
    assert nothing.json()["error"]["message"] == "model is required"
    assert nothing.status_code == 400


async def test_other_requests_and_other_values_pass(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    assert (await client.get("/v1/models", headers=ONLY)).json()["data"]
    async with worker.serving(lambda _: said("ok")):
        answer = await client.post(
            "/v1/chat/completions", json=chat(), headers={"x-preload-only": "false"}
        )
    assert answer.json()["choices"][0]["message"]["content"] == "ok "
