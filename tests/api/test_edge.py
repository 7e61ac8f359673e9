"""Paths as clients write them, ids, limits, and the shape of every refusal."""

from __future__ import annotations

import json

import httpx
import pytest
import structlog
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from api.app import Application, create_app
from api.edge import clean_path
from shared.requests import Generate, Prompt
from shared.settings import Settings
from tests.api.caller import calling, chat
from tests.api.fleet import MODEL, FakeWorker, said

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/exp/vDD4.40/engines/llama.cpp/v1/models", "/engines/llama.cpp/v1/models"),
        ("/exp/vDD4.40", "/"),
        ("/exp/vDD4.40//v1//models", "/v1/models"),
        ("//v1///models", "/v1/models"),
        ("/exp/other/v1", "/exp/other/v1"),
        ("/v1/models/exp/vDD4", "/v1/models/exp/vDD4"),
        ("/", "/"),
    ],
)
def test_paths_are_cleaned(written: str, meant: str) -> None:
    assert clean_path(written) == meant


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/engines/v1/models",
        "/engines/llama.cpp/v1/models",
        "/exp/vDD4.40/engines/llama.cpp/v1/models",
        "//engines//v1/models",
    ],
)
async def test_every_base_url_serves(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert [model["id"] for model in answer.json()["data"]] == [MODEL]


async def test_an_unknown_backend_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/engines/vllm/v1/chat/completions", json=chat())
    assert answer.status_code == 404
    assert "'vllm'" in answer.json()["error"]["message"]


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/v1/models")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


async def test_request_ids_go_in_out_and_into_the_log(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    with capture_logs(processors=[_with_context]) as lines:
        made = (await client.get("/nowhere", headers={"x-request-id": "two words"})).headers
    assert len(made["x-request-id"]) == 32
    (line,) = [line for line in lines if line["event"] == "request.finished"]
    assert (line["request_id"], line["status"]) == (made["x-request-id"], 404)


def _with_context(logger: object, name: str, line: dict[str, object]) -> dict[str, object]:
    return structlog.contextvars.merge_contextvars(logger, name, line)  # type: ignore[arg-type,return-value]


async def test_answers_carry_their_job(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("a")):
        answer = await client.post(CHAT, json=chat())
    assert answer.headers["x-caravan-job"] == answer.json()["id"]
    assert answer.headers["x-queue-position"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/nope", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/ai/none", 404, "model_not_found"),
    ],
)
async def test_refusals_have_openai_s_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_413(
    fake_redis: ArqRedis, worker: FakeWorker, announced: bool
) -> None:
    app = create_app(Settings(max_body_bytes=1000), fake_redis)

    async def parts():  # type: ignore[no-untyped-def]
        for _ in range(20):
            yield b"x" * 100

    async with app.service.running():
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            body = b"x" * 2000 if announced else parts()
            answer = await client.post(CHAT, content=body)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


async def test_a_full_queue_is_429_with_retry_after(
    fake_redis: ArqRedis, worker: FakeWorker
) -> None:
    app = create_app(Settings(max_queue=1), fake_redis)
    await worker.announce(jobs_per_s=0.1)
    waiting = Generate(id="job-1", model=MODEL, input=Prompt(text="x"))
    asking = calling(app, body=chat())
    async with app.service.running(), await app.service.start(waiting), asking as call:
        answer = json.loads(await call.text())
    assert call.status == 429
    assert call.headers["retry-after"] == "10"
    assert answer["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/ai/smollm2", CHAT])
async def test_redis_gone_is_503_with_retry_after_and_comes_back(
    app: Application,
    client: httpx.AsyncClient,
    worker: FakeWorker,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    async def down(*_: object, **__: object) -> None:
        raise RedisConnectionError("gone")

    async def ask() -> httpx.Response:
        if path == CHAT:
            return await client.post(path, json=chat())
        return await client.get(path)

    with monkeypatch.context() as outage:
        outage.setattr(app.service.redis, "execute_command", down)
        answer = await ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "queue_unavailable"
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 503
    async with worker.serving(lambda _: said("a")):
        assert (await ask()).status_code == 200


async def test_a_bug_is_a_500_without_its_trace(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise KeyError("secret detail")

    monkeypatch.setattr(app.service.fleet, "catalog", broken)
    with capture_logs() as lines:
        answer = await client.get("/v1/models")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"
    assert any(line["event"] == "request.crashed" for line in lines)
