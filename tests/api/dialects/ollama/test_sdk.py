"""The official client against a real server on loopback, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from struct import pack
from typing import Any, TypeVar

import httpx
import ollama
import pytest
from arq.connections import ArqRedis
from pydantic import BaseModel

from api.app import Application
from shared import codec, keys
from shared.control import Unload
from shared.events import Event, Failed, Finished, Started, TextDelta, Tokens, Usage, Vectors
from shared.requests import Embed, Generate, JsonSchema, Prompt, Request, Tokenize
from tests.api.caller import calling
from tests.api.dialects.scripts import TOOLS
from tests.api.fleet import MODEL, FakeWorker, said
from tests.as_if_async import AsIfAsync

T = TypeVar("T")

HI = [{"role": "user", "content": "hi"}]


def answers(request: Request) -> Sequence[Event]:
    """Words, vectors or tokens, as asked."""
    match request:
        case Embed(inputs=inputs):
            data = pack(f"<{2 * len(inputs)}f", *(float(n) for n in range(2 * len(inputs))))
            usage = Usage(prompt_tokens=4)
            return (Started(prompt_tokens=4), Vectors(data=data, width=2), Finished(usage=usage))
        case Tokenize():
            return (Tokens(), Finished())
        case _:
            return said("hello big world")


@pytest.fixture(params=["async", "sync"])
async def sdk(url: str, request: pytest.FixtureRequest) -> AsyncIterator[ollama.AsyncClient]:
    """Either client, with nothing but its URL changed."""
    if request.param == "async":
        client = ollama.AsyncClient(host=url)
        yield client
        await client._client.aclose()
    else:
        blocking = ollama.Client(host=url)
        yield AsIfAsync(blocking)  # type: ignore[misc]
        blocking._client.close()


async def test_chat(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        whole = await sdk.chat(model="smollm2", messages=HI)
        parts = [part async for part in await sdk.chat(model="smollm2", messages=HI, stream=True)]
    assert whole.message.content == "hello big world "
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert (whole.model, whole.done_reason) == ("smollm2", "stop")
    assert (whole.prompt_eval_count, whole.eval_count) == (5, 3)
    assert whole.total_duration == 31_500_000
    assert [part.done for part in parts] == [False, False, False, True]
    assert parts[-1].eval_duration == whole.eval_duration == 20_000_000


async def test_generate(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        whole = await sdk.generate("smollm2", "hi")
        parts = [part async for part in await sdk.generate("smollm2", "hi", stream=True)]
    assert whole.response == "".join(part.response for part in parts) == "hello big world "
    assert (whole.done_reason, parts[-1].eval_count) == ("stop", 3)
    assert parts[-1].context


async def test_tools_and_thinking(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    def weather(city: str) -> str:
        """Tell the weather.

        Args:
          city: where
        """
        return city

    async with worker.serving(lambda _: TOOLS):
        whole = await sdk.chat("smollm2", messages=HI, tools=[weather], think=True)
        again = [*HI, whole.message, {"role": "tool", "content": "rain", "tool_name": "weather"}]
        await sdk.chat("smollm2", messages=again, tools=[weather])
    assert whole.message.thinking == "Let me look."
    assert whole.message.tool_calls is not None
    functions = [call.function for call in whole.message.tool_calls]
    assert [(f.name, dict(f.arguments)) for f in functions] == [
        ("weather", {"city": "Oslo"}),
        ("clock", {}),
    ]
    first, second = worker.taken
    assert isinstance(first, Generate)
    assert isinstance(second, Generate)
    assert first.input.tools[0].parameters["required"] == ["city"]  # type: ignore[union-attr]
    assert second.input.messages[-1].name == "weather"  # type: ignore[union-attr]
    assert second.input.messages[1].reasoning == "Let me look."  # type: ignore[union-attr]


async def test_structured_output(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    class City(BaseModel):
        name: str

    async with worker.serving(lambda _: said('{"name":"Oslo"}')):
        answer = await sdk.chat("smollm2", messages=HI, format=City.model_json_schema())
    assert City.model_validate_json(answer.message.content or "") == City(name="Oslo")
    asked = worker.taken[-1]
    assert isinstance(asked, Generate)
    assert asked.constraint == JsonSchema(schema=City.model_json_schema())


async def test_vectors(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        many = await sdk.embed("smollm2", ["a", "b"])
        one = await sdk.embeddings("smollm2", "a")
        none = await sdk.embed("smollm2", "")
    assert many.embeddings == [[0.0, 1.0], [2.0, 3.0]]
    assert many.prompt_eval_count == 4
    assert one.embedding == [0.0, 1.0]
    assert none.embeddings == []


async def test_models(sdk: ollama.AsyncClient) -> None:
    listed = (await sdk.list()).models
    assert [model.model for model in listed] == ["smollm2:latest", "tiny:latest"]
    assert listed[0].size == 98_000_000
    shown = await sdk.show("smollm2")
    assert shown.details is not None
    assert shown.details.quantization_level == "Q4_1"
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192
    (running,) = (await sdk.ps()).models
    assert (running.name, running.context_length) == ("smollm2:latest", 8192)


async def test_an_empty_prompt_loads(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        generated = await sdk.generate("smollm2", keep_alive="1m")
        chatted = await sdk.chat("smollm2")
    assert (generated.done, generated.done_reason, generated.response) == (True, "load", "")
    assert (chatted.done_reason, chatted.message.content) == ("load", "")
    assert [type(asked) for asked in worker.taken] == [Tokenize, Tokenize]


async def test_keep_alive_zero_unloads(sdk: ollama.AsyncClient, fake_redis: ArqRedis) -> None:
    async with fake_redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(keys.CONTROL)
        answer = await sdk.generate("tiny", keep_alive=0)
        async with asyncio.timeout(5):
            while (message := await pubsub.get_message(timeout=1)) is None:
                pass
    assert (answer.done, answer.done_reason) == (True, "unload")
    assert codec.decode_control(message["data"]) == Unload(model=MODEL)
    with pytest.raises(ollama.ResponseError) as missing:
        await sdk.generate("nobody", keep_alive=0)
    assert missing.value.status_code == 404


async def test_every_listed_name_is_answered(sdk: ollama.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        for listed in (await sdk.list()).models:
            answer = await sdk.chat(listed.model or "", messages=HI)
            assert answer.model == listed.model
    assert {asked.model for asked in worker.taken} == {MODEL}


async def test_errors(sdk: ollama.AsyncClient) -> None:
    with pytest.raises(ollama.ResponseError, match="nobody") as missing:
        await sdk.chat("nobody", messages=HI)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"options\.tfs_z") as refused:
        await sdk.chat("smollm2", messages=HI, options={"tfs_z": 0.5})
    assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="nobody") as shown:
        await sdk.show("nobody")
    assert shown.value.status_code == 404


async def test_a_failure_in_the_stream_is_an_error(
    sdk: ollama.AsyncClient, worker: FakeWorker
) -> None:
    async def read() -> None:
        async for _ in await sdk.generate("smollm2", "hi", stream=True):
            pass

    reading = asyncio.create_task(read())
    held = await worker.next()
    await held.say(Started(prompt_tokens=5), TextDelta(text="Hel"))
    await held.say(Failed(code="worker_crashed", message="it is given up"))
    with pytest.raises(ollama.ResponseError, match="it is given up"):
        await reading


async def test_every_option_of_the_sdk_is_known(
    sdk: ollama.AsyncClient, worker: FakeWorker
) -> None:
    off = {"tfs_z": 1.0, "penalize_newline": True, "stop": ["x"], "temperature": 0.5}
    for name, field in ollama.Options.model_fields.items():
        if name not in off:
            off[name] = False if "bool" in str(field.annotation) else 1
    async with worker.serving(answers):
        await sdk.generate("smollm2", "hi", raw=True, options=ollama.Options(**off))
    asked = worker.taken[-1]
    assert isinstance(asked, Generate)
    assert asked.input == Prompt(text="hi")
    assert (asked.sampling.mirostat, asked.sampling.seed, asked.max_tokens) == (1, 1, 1)


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("POST", "/api/pull", {}, 503),
        ("POST", "/api/push", {}, 503),
        ("POST", "/api/create", {"from": "smollm2"}, 503),
        ("POST", "/api/create", {}, 400),
        ("POST", "/api/blobs/sha256:ab", {}, 503),
        ("DELETE", "/api/delete", {}, 409),
        ("HEAD", "/api/blobs/sha256:ab", {}, 404),
    ],
)
async def test_without_a_store_the_reason_is_said(
    client: httpx.AsyncClient, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    response = await client.request(method, path, json={"model": "smollm2"} | more)
    assert response.status_code == status
    assert method == "HEAD" or list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/chat", b"{", 400),
        ("POST", "/api/chat", b"{}", 400),
        ("POST", "/api/chat", b"x" * 11_000_000, 413),
        ("GET", "/api/chat", b"", 405),
        ("GET", "/api/nothing", b"", 404),
    ],
)
async def test_what_is_no_request_is_one_sentence(
    client: httpx.AsyncClient, method: str, path: str, body: bytes, status: int
) -> None:
    response = await client.request(method, path, content=body)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


async def test_version_is_a_level_clients_can_compare(client: httpx.AsyncClient) -> None:
    version = (await client.get("/api/version")).json()["version"]
    assert [int(part) for part in version.split(".")] >= [0, 12, 11]


async def test_a_queued_client_hears_nothing(app: Application, worker: FakeWorker) -> None:
    asked: dict[str, Any] = {"model": "smollm2", "messages": HI}
    async with calling(app, "/api/chat", body=asked) as call, asyncio.timeout(5):
        held = await worker.next()
        await held.say(*answers(held.request))
        text = await call.text()
    assert text.startswith('{"model":"smollm2"')
    assert call.headers["content-type"].startswith("application/x-ndjson")
