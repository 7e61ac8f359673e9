"""The official client against a real server on loopback, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from api.app import Application
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Tokens,
    ToolCallDelta,
    Usage,
)
from shared.requests import Chat, Generate, JsonSchema, Request, Tokenize
from tests.api.caller import calling
from tests.api.fleet import MODEL, FakeWorker, said
from tests.as_if_async import AsIfAsync

T = TypeVar("T")

ASK: dict[str, Any] = {
    "model": "smollm2",
    "max_tokens": 32,
    "messages": [{"role": "user", "content": "hi"}],
}
TOOLS: list[Any] = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]


def calls(_: Request) -> Sequence[Event]:
    """Thinks, says, calls two tools."""
    return (
        Started(prompt_tokens=9),
        ReasoningDelta(text="Let me "),
        ReasoningDelta(text="look."),
        TextDelta(text="One moment."),
        ToolCallDelta(index=0, id="call_a", name="weather"),
        ToolCallDelta(index=0, arguments='{"city":'),
        ToolCallDelta(index=0, arguments='"Oslo"}'),
        ToolCallDelta(index=1, id="call_b", name="weather", arguments="{}"),
        Finished(
            choices=(ChoiceEnd(reason="tool_calls"),),
            usage=Usage(prompt_tokens=9, completion_tokens=7, cached_tokens=4, reasoning_tokens=3),
        ),
    )


def answers(request: Request) -> Sequence[Event]:
    """Words, or tokens where tokens are asked for."""
    if isinstance(request, Tokenize):
        return (Tokens(ids=(1, 2, 3), pieces=(b"a", b"b", b"c")), Finished())
    return said("hello big world")


@pytest.fixture(params=["async", "sync"])
async def sdk(url: str, request: pytest.FixtureRequest) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Either client, with nothing but its base URL changed."""
    here: Any = {"base_url": f"{url}/anthropic", "api_key": "any", "max_retries": 0}
    if request.param == "async":
        async with anthropic.AsyncAnthropic(**here) as client:
            yield client
    else:
        with anthropic.Anthropic(**here) as client:
            yield AsIfAsync(client)  # type: ignore[misc]


async def sync(url: str, ask: Callable[[anthropic.Anthropic], T]) -> T:
    """What `ask` gets from the blocking client, in a thread of its own."""

    def run() -> T:
        with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            return ask(client)

    return await asyncio.to_thread(run)


async def test_a_message(sdk: anthropic.AsyncAnthropic, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        message = await sdk.messages.create(**ASK)
    assert message.content[0].text == "hello big world "
    assert (message.role, message.model) == ("assistant", "smollm2")
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (3, 2)
    assert message.usage.output_tokens == 3
    assert message.id.startswith("msg_")
    assert message._request_id


async def test_a_stream_is_the_same_message(
    sdk: anthropic.AsyncAnthropic, worker: FakeWorker
) -> None:
    async with worker.serving(calls):
        whole = await sdk.messages.create(**ASK, tools=TOOLS)
        async with sdk.messages.stream(**ASK, tools=TOOLS) as stream:
            kinds = [event.type async for event in stream]
            streamed = await stream.get_final_message()
    assert streamed.model_copy(update={"id": whole.id}).model_dump() == whole.model_dump()
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert whole.content[2].input == {"city": "Oslo"}
    assert whole.content[0].signature
    assert whole.stop_reason == "tool_use"
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert {"thinking", "text", "input_json", "signature"} < set(kinds)


async def test_the_sync_client_streams_and_blocks(url: str, worker: FakeWorker) -> None:
    def ask(client: anthropic.Anthropic) -> tuple[str, str]:
        with client.messages.stream(**ASK) as stream:
            streamed = "".join(stream.text_stream)
        return streamed, client.messages.create(**ASK).content[0].text

    async with worker.serving(answers):
        assert await sync(url, ask) == ("hello big world ", "hello big world ")


async def test_what_was_answered_can_be_sent_back(
    sdk: anthropic.AsyncAnthropic, worker: FakeWorker
) -> None:
    async with worker.serving(calls):
        first = await sdk.messages.create(**ASK, tools=TOOLS)
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
            for block in first.content
            if block.type == "tool_use"
        ]
        turns = [
            *ASK["messages"],
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": results},
        ]
        await sdk.messages.create(**{**ASK, "messages": turns}, tools=TOOLS)
    asked = worker.taken[-1]
    assert isinstance(asked, Generate)
    assert isinstance(asked.input, Chat)
    assert [message.role for message in asked.input.messages] == [
        "user",
        "assistant",
        "tool",
        "tool",
    ]
    assert asked.input.messages[1].reasoning == "Let me look."
    assert [call.id for call in asked.input.messages[1].tool_calls] == ["call_a", "call_b"]


async def test_a_pydantic_model_is_parsed(
    sdk: anthropic.AsyncAnthropic, worker: FakeWorker
) -> None:
    class City(BaseModel):
        name: str

    async with worker.serving(lambda _: said('{"name":"Oslo"}')):
        message = await sdk.messages.parse(**ASK, output_format=City)
    assert message.parsed_output == City(name="Oslo")
    asked = worker.taken[-1]
    assert isinstance(asked, Generate)
    assert isinstance(asked.constraint, JsonSchema)


async def test_tokens_are_counted(sdk: anthropic.AsyncAnthropic, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        count = await sdk.messages.count_tokens(model="smollm2", messages=ASK["messages"])
    assert count.input_tokens == 3


async def test_models(sdk: anthropic.AsyncAnthropic) -> None:
    models = [model async for model in sdk.models.list()]
    assert [model.id for model in models] == [MODEL]
    assert models[0].max_input_tokens == 8192
    assert (await sdk.models.retrieve("smollm2")).id == MODEL
    assert (await sdk.models.retrieve("tiny")).created_at == models[0].created_at


async def test_the_client_is_known_on_the_path_it_shares(url: str) -> None:
    def ask(client: anthropic.Anthropic) -> tuple[str, str]:
        return client.models.list().data[0].type, client.models.retrieve("tiny").id

    assert await sync(url, ask) == ("model", MODEL)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/v1/models")).json()["object"] == "list"


async def test_errors_have_the_vendors_types(sdk: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await sdk.messages.create(**{**ASK, "model": "nobody"})
    assert missing.value.type == "not_found_error"
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="container") as refused:
        await sdk.messages.create(**ASK, extra_body={"container": "c"})
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError) as model:
        await sdk.models.retrieve("nobody")
    assert model.value.type == "not_found_error"


async def test_a_failure_in_the_stream_is_an_error(
    sdk: anthropic.AsyncAnthropic, worker: FakeWorker
) -> None:
    async def read() -> None:
        async with sdk.messages.stream(**ASK) as stream:
            async for _ in stream:
                pass

    reading = asyncio.create_task(read())
    held = await worker.next()
    await held.say(Started(prompt_tokens=5), TextDelta(text="Hel"))
    await held.say(Failed(code="worker_crashed", message="it is given up"))
    with pytest.raises(anthropic.APIStatusError, match="it is given up"):
        await reading


@pytest.mark.parametrize("prefix", ["/anthropic/v1", "/v1", "/engines/v1", "/engines/llama.cpp/v1"])
async def test_every_path_answers(
    client: httpx.AsyncClient, worker: FakeWorker, prefix: str
) -> None:
    async with worker.serving(answers):
        response = await client.post(f"{prefix}/messages", json=ASK, params={"beta": "true"})
        count = await client.post(f"{prefix}/messages/count_tokens", json=ASK)
    assert response.json()["content"] == [{"type": "text", "text": "hello big world "}]
    assert response.headers["request-id"] == response.headers["x-request-id"]
    assert count.json() == {"input_tokens": 3}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/v1/messages", b"{", 400, "invalid_request_error"),
        ("POST", "/anthropic/v1/messages", b"{}", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"x" * 11_000_000, 413, "request_too_large"),
        ("GET", "/anthropic/v1/messages", b"", 405, "invalid_request_error"),
        ("GET", "/anthropic/v1/nothing", b"", 404, "not_found_error"),
        ("POST", "/engines/vllm/v1/messages", b"{}", 404, "not_found_error"),
    ],
)
async def test_what_is_no_request_is_answered_in_the_vendors_shape(
    client: httpx.AsyncClient, method: str, path: str, body: bytes, status: int, kind: str
) -> None:
    response = await client.request(method, path, content=body)
    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == kind


async def test_a_queued_client_hears_pings(app: Application, worker: FakeWorker) -> None:
    async with calling(app, "/v1/messages", body=ASK | {"stream": True}) as call:
        async with asyncio.timeout(5):
            heard = await call.writes.get()
            held = await worker.next()
            await held.say(*answers(held.request))
            rest = await call.text()
    assert heard.startswith(b": queued position=1")
    assert heard.endswith(b'event: ping\ndata: {"type":"ping"}\n\n')
    assert rest.rstrip().endswith('event: message_stop\ndata: {"type":"message_stop"}')


@pytest.mark.parametrize(
    ("query", "status", "ids"),
    [
        ("", 200, [MODEL]),
        ("?limit=1", 200, [MODEL]),
        (f"?after_id={MODEL}", 200, []),
        (f"?before_id={MODEL}", 200, []),
        ("?after_id=x", 400, None),
        ("?limit=0", 400, None),
        ("?limit=x", 400, None),
        ("?lifecycle=active", 400, None),
    ],
)
async def test_pages_of_models(
    client: httpx.AsyncClient, query: str, status: int, ids: Any
) -> None:
    response = await client.get(f"/anthropic/v1/models{query}")
    assert response.status_code == status
    if ids is not None:
        assert [model["id"] for model in response.json()["data"]] == ids
