"""Requests are recorded when the operator says so, and then as people want to read them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

from api import recorder
from api.app import Application, create_app
from api.paths import is_inference
from shared import keys
from shared.settings import Settings
from tests.api.caller import calling, chat
from tests.api.dialects.scripts import TOOLS
from tests.api.fleet import CARD, MODEL, FakeWorker, said

PIXELS = "data:image/png;base64," + "A" * 400
STREAMS = {
    "/v1/chat/completions": chat(stream=True),
    "/v1/messages": chat(stream=True, max_tokens=9),
    "/v1/responses": {"model": "smollm2", "input": "hi", "stream": True},
    "/api/chat": chat(),
}
TEXTS = {
    "/v1/completions": {"model": "smollm2", "prompt": "hi", "stream": True},
    "/api/generate": {"model": "smollm2", "prompt": "hi"},
}


@pytest.fixture
async def recording(
    fake_redis: ArqRedis, settings: Settings, worker: FakeWorker
) -> AsyncIterator[Application]:
    """The application, told to record."""
    app = create_app(msgspec.structs.replace(settings, record_requests=True), fake_redis)
    async with app.service.running():
        yield app


@pytest.fixture
async def looking(recording: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who looks what was asked."""
    transport = httpx.ASGITransport(recording)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
        yield client


async def records(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found = (await client.get("/engines/requests")).json()
    assert all(one["count"] == len(one["records"]) for one in found)
    return [record for one in found for record in one["records"]]


@pytest.mark.parametrize(
    ("method", "path", "inference"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/engines/llama.cpp/v1/chat/completions", True),
        ("POST", "/engines/v1/embeddings", True),
        ("POST", "/rerank", True),
        ("POST", "/engines/score", True),
        ("POST", "/responses", True),
        ("POST", "/anthropic/v1/messages/count_tokens", True),
        ("POST", "/api/generate", True),
        ("GET", "/v1/chat/completions", False),
        ("POST", "/api/show", False),
        ("POST", "/v1/responses/x/cancel", False),
        ("POST", "/engines/unload", False),
        ("POST", "/models/create", False),
    ],
)
def test_which_paths_ask_a_model(method: str, path: str, inference: bool) -> None:
    assert is_inference(method, path) == inference


async def test_nothing_is_recorded_unless_asked_for(
    client: httpx.AsyncClient, worker: FakeWorker, fake_redis: ArqRedis
) -> None:
    async with worker.serving(lambda _: said("ok")):
        await client.post("/v1/chat/completions", json=chat())
    assert (await client.get("/engines/requests")).json() == []
    assert not await fake_redis.exists(keys.records(MODEL))


async def test_a_record(
    looking: httpx.AsyncClient, worker: FakeWorker, fake_redis: ArqRedis
) -> None:
    headers = {"user-agent": "curl/8", "x-request-id": "mine", "x-request-origin": "here"}
    part = {"type": "image_url", "image_url": {"url": PIXELS}}
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": [part]}]}
    async with worker.serving(lambda _: said("ok")):
        await looking.post("/engines/v1/chat/completions", json=asked, headers=headers)
    (one,) = (await looking.get("/engines/requests?model=tiny")).json()
    assert (one["count"], one["model"], one["config"]) == (1, CARD.digest, {})
    (record,) = one["records"]
    assert (record["id"], record["user_agent"], record["origin"]) == ("mine", "curl/8", "here")
    assert (record["method"], record["url"]) == ("POST", "/engines/v1/chat/completions")
    assert (record["status_code"], record["error"], record["model"]) == (200, "", MODEL)
    cut = json.loads(record["request"])["messages"][0]["content"][0]["image_url"]["url"]
    assert cut == PIXELS[:100] + "...[322 more characters]"
    assert json.loads(record["response"])["choices"][0]["message"]["content"] == "ok "
    assert 0 < await fake_redis.ttl(keys.records(MODEL)) <= keys.RECORD_TTL_S


async def test_the_last_ten_are_kept_and_failures_too(
    looking: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with worker.serving(lambda _: said("ok")):
        for n in range(12):
            await looking.post("/v1/chat/completions", json=chat(f"{n}"))
    await looking.post("/v1/chat/completions", json=chat(colour="red"))
    await looking.post("/v1/chat/completions", json={"model": "nobody's", "messages": []})
    await looking.post("/v1/chat/completions", content=b"{")
    found = await records(looking)
    asked = [json.loads(record["request"])["messages"][0]["content"] for record in found]
    assert asked == [*(f"{n}" for n in range(3, 12)), "hi"]
    assert (found[-1]["status_code"], found[-1]["response"]) == (400, "")
    assert "colour" in found[-1]["error"]


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_becomes_one_object(
    looking: httpx.AsyncClient, worker: FakeWorker, path: str
) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    flat = {"name": "weather", "input_schema": {"type": "object"}}
    tools = {"tools": [flat if path == "/v1/messages" else tool]}
    async with worker.serving(lambda _: TOOLS):
        await looking.post(path, json=STREAMS[path] | tools)
        whole = await looking.post(path, json=STREAMS[path] | tools | {"stream": False})
    streamed, blocking = [json.loads(record["response"]) for record in await records(looking)]
    assert whole.json() == blocking
    assert comparable(streamed) == comparable(blocking)


@pytest.mark.parametrize("path", TEXTS)
async def test_a_stream_of_text_becomes_one_object(
    looking: httpx.AsyncClient, worker: FakeWorker, path: str
) -> None:
    async with worker.serving(lambda _: said("hello big world")):
        await looking.post(path, json=TEXTS[path])
        await looking.post(path, json=TEXTS[path] | {"stream": False})
    streamed, blocking = [json.loads(record["response"]) for record in await records(looking)]
    assert comparable(streamed) == comparable(blocking)


def comparable(answer: Any) -> Any:
    """What two answers to the same question have in common: all but ids, times, and how a stream
    tells the same."""
    apart = ("id", "created", "created_at", "completed_at", "usage", "index", "refusal", "logprobs")
    more = ("timings", "total_duration", "tool_calls_index", "signature")
    match answer:
        case dict():
            return {
                name: comparable(
                    json.loads(value) if name == "input" and value == str(value) else value
                )
                for name, value in answer.items()
                if name not in (*apart, *more) and value is not None
            }
        case list():
            return [comparable(one) for one in answer]
        case _:
            return answer


async def test_who_listens_hears_each_record_as_it_is_made(
    recording: Application, looking: httpx.AsyncClient, worker: FakeWorker
) -> None:
    accept = {"accept": "text/event-stream"}
    async with worker.serving(lambda _: said("ok")):
        await looking.post("/v1/chat/completions", json=chat("before"))
        path = "/engines/requests"
        async with calling(recording, path, method="GET", headers=accept) as call:
            call.scope["query_string"] = b"include_existing=true"
            existing, connected = await call.writes.get(), await call.writes.get()
            await looking.post("/v1/chat/completions", json=chat("now"))
            new = await call.writes.get()
    assert connected == b'event: connected\ndata: {"status": "connected"}\n\n'
    for event, name, text in (
        (existing, "existing_request", "before"),
        (new, "new_request", "now"),
    ):
        head, data = event.decode().strip().split("\n")
        assert head == f"event: {name}"
        ((one,)) = json.loads(data.removeprefix("data: "))
        assert one["count"] == 1
        asked = json.loads(one["records"][0]["request"])
        assert asked["messages"][0]["content"] == text


async def test_a_request_whose_answer_never_began_is_408(
    recording: Application, looking: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with calling(recording, body=chat()) as call:
        await worker.next()
        call.leave()
        await call.done.wait()
    (record,) = await records(looking)
    assert record["status_code"] in (recorder.NEVER_ANSWERED, 499)
