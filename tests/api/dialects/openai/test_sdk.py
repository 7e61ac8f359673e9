"""The official client against a real server on loopback, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from api.app import Application
from shared.errors import ContextTooLong
from shared.events import (
    ChoiceEnd,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
    Vectors,
)
from shared.requests import Chat, Embed, Generate, JsonSchema, Request
from tests.api.dialects.scripts import TOOLS, logprob
from tests.api.fleet import MODEL, FakeWorker, said
from tests.as_if_async import AsIfAsync

ASK: dict[str, Any] = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}]}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
HALVES = b"\x00\x00\x00\x3f\x00\x00\x80\x3e"  # 0.5, 0.25


@pytest.fixture(params=["async", "sync"])
async def sdk(url: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncOpenAI]:
    """Either client, with nothing but its base URL changed."""
    here: Any = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0}
    if request.param == "async":
        async with AsyncOpenAI(**here) as client:
            yield client
    else:
        with OpenAI(**here) as client:
            yield AsIfAsync(client)  # type: ignore[misc]


def answers(request: Request) -> Sequence[Event]:
    """What the model says, by what it is asked."""
    match request:
        case Embed(inputs=inputs):
            return (
                Vectors(data=HALVES * len(inputs), width=2),
                Finished(usage=Usage(prompt_tokens=4)),
            )
        case Generate(constraint=JsonSchema()):
            return said('{"city":"Oslo"}')
        case Generate(input=Chat(tools=tools)) if tools:
            return TOOLS
        case Generate(logprobs=int()):
            return (
                Started(prompt_tokens=1),
                TextDelta(text="a", logprobs=(logprob(b"a"),)),
                Finished(choices=(ChoiceEnd(),)),
            )
        case Generate(choices=2):
            return (
                TextDelta(text="a"),
                TextDelta(text="b", choice=1),
                Finished(choices=(ChoiceEnd(), ChoiceEnd(reason="length"))),
            )
        case _:
            return (Started(prompt_tokens=3), ReasoningDelta(text="hm"), *said("hello big world"))


async def test_chat(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        done = await sdk.chat.completions.create(**ASK, temperature=0, seed=1, max_tokens=9)
    assert done.choices[0].message.content == "hello big world "
    assert done.choices[0].message.reasoning_content == "hm"  # type: ignore[attr-defined]
    assert done.choices[0].finish_reason == "stop"
    assert (done.model, done.object, done.id[:9]) == (MODEL, "chat.completion", "chatcmpl-")
    assert done.usage is not None
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 2
    assert worker.taken[0].sampling.temperature == 0  # type: ignore[union-attr]


async def test_chat_stream(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    options: Any = {"include_usage": True}
    async with worker.serving(answers):
        stream = await sdk.chat.completions.create(**ASK, stream=True, stream_options=options)
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "hello big world "
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 8
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


async def test_stream_helper_accumulates(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    streaming = sdk.chat.completions.stream(**ASK, tools=[WEATHER])
    async with worker.serving(answers), streaming as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.tool_calls is not None
    assert [(call.id, call.function.arguments) for call in message.tool_calls] == [
        ("call_a", '{"city": "Oslo"}'),
        ("call_b", "{}"),
    ]
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].finish_reason == "tool_calls"


async def test_parse_with_a_model_of_pydantic(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    class City(BaseModel):
        city: str

    async with worker.serving(answers):
        done = await sdk.chat.completions.parse(**ASK, response_format=City)
    assert done.choices[0].message.parsed == City(city="Oslo")


async def test_tool_calls_and_logprobs_and_choices(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        tools = await sdk.chat.completions.create(**ASK, tools=[WEATHER])
        probable = await sdk.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
        two = await sdk.chat.completions.create(**ASK, n=2)
    calls = tools.choices[0].message.tool_calls
    assert calls is not None
    assert [call.id for call in calls] == ["call_a", "call_b"]
    assert probable.choices[0].logprobs is not None
    assert probable.choices[0].logprobs.content is not None
    assert len(probable.choices[0].logprobs.content[0].top_logprobs) == 2
    assert [(one.message.content, one.finish_reason) for one in two.choices] == [
        ("a", "stop"),
        ("b", "length"),
    ]


async def test_completions(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("and so on")):
        one = await sdk.completions.create(model="smollm2", prompt="Once")
        many = await sdk.completions.create(model="smollm2", prompt=["a", "b"], max_tokens=3)
        tokens = await sdk.completions.create(model="smollm2", prompt=[1, 2, 3])
        stream = await sdk.completions.create(model="smollm2", prompt="Once", stream=True)
        text = "".join([chunk.choices[0].text async for chunk in stream])
    assert one.choices[0].text == text == tokens.choices[0].text == "and so on "
    assert [choice.index for choice in many.choices] == [0, 1]
    assert many.usage is not None
    assert many.usage.prompt_tokens == 10
    assert worker.taken[3].input.tokens == (1, 2, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["float", "base64", None])
async def test_embeddings(sdk: AsyncOpenAI, worker: FakeWorker, form: Any) -> None:
    more = {"encoding_format": form} if form else {}
    async with worker.serving(answers):
        found = await sdk.embeddings.create(model="smollm2", input=["a", "b"], dimensions=2, **more)
    vectors = [one.embedding for one in found.data]
    wanted: Any = "AAAAPwAAgD4=" if form == "base64" else [0.5, 0.25]
    assert vectors == [wanted, wanted]
    assert found.usage.prompt_tokens == 4
    assert worker.taken[0].dimensions == 2  # type: ignore[union-attr]


async def test_models(sdk: AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == [MODEL]
    for name in ("smollm2", "ai/smollm2", "docker.io/ai/smollm2:latest", "abababababab"):
        assert (await sdk.models.retrieve(name)).id == MODEL


async def test_errors_are_the_client_s_own_classes(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.chat.completions.create(model="none", messages=ASK["messages"])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        await sdk.chat.completions.create(**ASK, extra_body={"colour": "red"})
    assert bad.value.param == "colour"
    error = ContextTooLong.of(prompt_tokens=9, context=8)
    async with worker.serving(lambda _: (error.event(),)):
        with pytest.raises(openai.BadRequestError) as long:
            await sdk.chat.completions.create(**ASK, stream=True)
    assert long.value.code == "context_length_exceeded"


async def test_a_failure_in_the_stream_is_an_error(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    events = (Started(prompt_tokens=1), TextDelta(text="a"), ContextTooLong("no cells").event())
    async with worker.serving(lambda _: events):
        stream = await sdk.chat.completions.create(**ASK, stream=True)
        with pytest.raises(openai.APIError, match="no cells"):
            [chunk async for chunk in stream]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("sdk", ["async"], indirect=True)  # a thread cannot be cancelled
async def test_a_client_that_closes_frees_its_job(
    sdk: AsyncOpenAI, worker: FakeWorker, app: Application, stream: bool
) -> None:
    asking = asyncio.create_task(_ask_and_read(sdk, stream))
    held = await worker.next()
    await held.say(Started(prompt_tokens=1), TextDelta(text="a"))
    asking.cancel()
    while len(app.service.inbox):
        await asyncio.sleep(0.005)
    assert (await held.say(TextDelta(text="b"))).name == "CANCELLED"
    await held.say(Finished(choices=(ChoiceEnd(reason="cancelled"),)))


async def _ask_and_read(sdk: AsyncOpenAI, stream: bool) -> None:
    answer: Any = await sdk.chat.completions.create(**ASK, stream=stream)
    async for _ in answer:
        pass
