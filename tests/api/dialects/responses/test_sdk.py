"""The official client's `responses` against a real server on loopback, sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseCompletedEvent, ResponseStreamEvent
from pydantic import BaseModel

from api.app import Application
from shared.errors import ContextTooLong, WorkerCrashed
from shared.events import (
    ChoiceEnd,
    Event,
    Failed,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
)
from shared.messages import Message, Text, ToolCall
from shared.requests import Chat, Generate, JsonSchema, Request
from tests.api.dialects.scripts import TOOLS, logprob
from tests.api.fleet import MODEL, FakeWorker, said
from tests.as_if_async import AsIfAsync

ASK: dict[str, Any] = {"model": "smollm2", "input": "hi"}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class City(BaseModel):
    """What is parsed out of an answer."""

    city: str


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
        case Generate(max_tokens=1):
            return (TextDelta(text="cut"), Finished(choices=(ChoiceEnd(reason="length"),)))
        case _:
            return (
                Started(prompt_tokens=5),
                ReasoningDelta(text="hm"),
                TextDelta(text="hello "),
                TextDelta(text="world"),
                Finished(
                    choices=(ChoiceEnd(),),
                    usage=Usage(
                        prompt_tokens=5, completion_tokens=3, cached_tokens=2, reasoning_tokens=1
                    ),
                ),
            )


async def test_create(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        done = await sdk.responses.create(
            **ASK, instructions="Be kind.", temperature=0, max_output_tokens=9, metadata={"a": "b"}
        )
    assert (done.status, done.object, done.model, done.id[:5]) == (
        "completed",
        "response",
        MODEL,
        "resp_",
    )
    assert done.output_text == "hello world"
    assert [item.type for item in done.output] == ["reasoning", "message"]
    assert done.output[0].content[0].text == "hm"  # type: ignore[union-attr,index]
    assert done.usage is not None
    assert done.usage.input_tokens_details.cached_tokens == 2
    assert done.usage.output_tokens_details.reasoning_tokens == 1
    assert (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens) == (5, 3, 8)
    assert (done.temperature, done.max_output_tokens, done.metadata) == (0, 9, {"a": "b"})
    assert messages(worker)[0] == Message(role="system", content=(Text(text="Be kind."),))


def messages(worker: FakeWorker) -> tuple[Message, ...]:
    """The conversation of the last request."""
    asked = worker.taken[-1]
    assert isinstance(asked, Generate)
    assert isinstance(asked.input, Chat)
    return asked.input.messages


async def test_stream(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        stream = await sdk.responses.create(**ASK, stream=True)
        events: list[ResponseStreamEvent] = [event async for event in stream]
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    kept = await sdk.responses.retrieve(last.response.id)
    assert kept.output_text == text == "hello world"
    assert kept == last.response


async def test_the_stream_helper(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        async with sdk.responses.stream(**ASK, tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
        async with sdk.responses.stream(**ASK, text_format=City) as stream:
            parsed = (await stream.get_final_response()).output_parsed
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.function_call_arguments.done") == 2
    calls = [item for item in final.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("call_a", "weather", '{"city": "Oslo"}'),
        ("call_b", "clock", "{}"),
    ]
    assert parsed == City(city="Oslo")


async def test_parse_with_a_model_of_pydantic(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        done = await sdk.responses.parse(**ASK, text_format=City)
    assert done.output_parsed == City(city="Oslo")


async def test_the_whole_conversation_is_remembered(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        one = await sdk.responses.create(**ASK, instructions="Be kind.")
        two = await sdk.responses.create(
            model="smollm2", input="and?", previous_response_id=one.id, stream=True
        )
        (last,) = [e.response async for e in two if isinstance(e, ResponseCompletedEvent)]
        await sdk.responses.create(
            model="smollm2",
            input=[{"role": "user", "content": "so?"}],
            instructions="Be brief.",
            previous_response_id=last.id,
        )
    said_so_far = [(message.role, message.text) for message in messages(worker)]
    assert said_so_far == [
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "hello world"),
        ("user", "and?"),
        ("assistant", "hello world"),
        ("user", "so?"),
    ]
    assert messages(worker)[2].reasoning == "hm"


async def test_a_tool_s_result_goes_back(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        one = await sdk.responses.create(**ASK, tools=[WEATHER])
        await sdk.responses.create(
            model="smollm2",
            previous_response_id=one.id,
            input=[{"type": "function_call_output", "call_id": "call_a", "output": "cold"}],
        )
        by_id = messages(worker)
        await sdk.responses.create(
            model="smollm2",
            input=[
                {"role": "user", "content": "hi"},
                *[item.to_dict() for item in one.output],  # type: ignore[list-item]
                {"type": "function_call_output", "call_id": "call_a", "output": "cold"},
            ],
        )
    assert by_id == messages(worker)
    called, result = by_id[1:]
    assert called.reasoning == "Let me look."
    assert called.text == "One moment."
    assert called.tool_calls[0] == ToolCall(
        id="call_a", name="weather", arguments='{"city": "Oslo"}'
    )
    assert result == Message(
        role="tool", content=(Text(text="cold"),), tool_call_id="call_a", name="weather"
    )


async def test_items_are_sent_by_their_names(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        one = await sdk.responses.create(**ASK, tools=[WEATHER])
        references: Any = [{"type": "item_reference", "id": item.id} for item in one.output]
        result = {"type": "function_call_output", "call_id": "call_a", "output": "cold"}
        two = await sdk.responses.create(model="smollm2", input=[*references, result])
        with pytest.raises(openai.BadRequestError, match="no stored response"):
            await sdk.responses.create(
                model="smollm2", input=[{"type": "item_reference", "id": "msg_" + "0" * 36}]
            )
    assert [message.role for message in messages(worker)] == ["assistant", "tool"]
    assert messages(worker)[0].tool_calls[0].id == "call_a"
    listed = [item.id async for item in sdk.responses.input_items.list(two.id, order="asc")]
    assert listed[:-1] == [item.id for item in one.output]


async def test_retrieve_delete_and_input_items(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    turns: Any = [{"role": "user", "content": f"{n}"} for n in range(45)]
    async with worker.serving(answers):
        done = await sdk.responses.create(model="smollm2", input=turns)
    assert (await sdk.responses.retrieve(done.id)) == done
    newest = [item async for item in sdk.responses.input_items.list(done.id)]
    oldest = [item async for item in sdk.responses.input_items.list(done.id, order="asc", limit=7)]
    assert [item.content[0].text for item in oldest] == [f"{n}" for n in range(45)]  # type: ignore[union-attr,index]
    assert newest == oldest[::-1]
    assert await sdk.responses.delete(done.id) is None
    for call in (
        sdk.responses.retrieve(done.id),
        sdk.responses.delete(done.id),
        sdk.responses.input_items.list(done.id),
        sdk.responses.cancel(done.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await call
    with pytest.raises(openai.BadRequestError) as gone:
        await sdk.responses.create(**ASK, previous_response_id=done.id)
    assert gone.value.param == "previous_response_id"


async def test_only_background_responses_can_be_cancelled(
    sdk: AsyncOpenAI, worker: FakeWorker
) -> None:
    async with worker.serving(answers):
        done = await sdk.responses.create(**ASK)
    with pytest.raises(openai.BadRequestError, match="background"):
        await sdk.responses.cancel(done.id)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_not_stored_is_not_there(
    sdk: AsyncOpenAI, worker: FakeWorker, stream: bool
) -> None:
    async with worker.serving(answers):
        answer: Any = await sdk.responses.create(**ASK, store=False, stream=stream)
        done = [event async for event in answer][-1].response if stream else answer
    assert done.store is False
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(done.id)


async def test_logprobs_and_an_answer_that_was_cut(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        probable = await sdk.responses.create(
            **ASK, include=["message.output_text.logprobs"], top_logprobs=2
        )
        cut = await sdk.responses.create(**ASK, max_output_tokens=1)
    part: Any = probable.output[0].content[0]  # type: ignore[union-attr,index]
    assert (part.logprobs[0].token, len(part.logprobs[0].top_logprobs)) == ("a", 2)
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.output[0].status == "incomplete"  # type: ignore[union-attr]


async def test_errors_are_the_client_s_own_classes(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk.responses.create(model="none", input="hi")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    error = ContextTooLong.of(prompt_tokens=9, context=8)
    for stream in (True, False):
        async with worker.serving(lambda _: (error.event(),)):
            with pytest.raises(openai.BadRequestError) as long:
                await sdk.responses.create(**ASK, stream=stream)
        assert long.value.code == "context_length_exceeded"


async def test_a_job_that_fails_is_a_failed_response(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    events = (Started(prompt_tokens=1), TextDelta(text="a"), WorkerCrashed("given up").event())
    async with worker.serving(lambda _: events):
        with pytest.raises(openai.InternalServerError) as failed:
            await sdk.responses.create(**ASK)
        stream = await sdk.responses.create(**ASK, stream=True)
        *_, told, last = [event async for event in stream]
    assert (failed.value.code, failed.value.type) == ("server_error", "server_error")
    assert (told.type, last.type) == ("error", "response.failed")
    kept = await sdk.responses.retrieve(last.response.id)  # type: ignore[union-attr]
    assert (kept.status, kept.output_text) == ("failed", "a")
    assert kept.error is not None
    assert kept.error.message == "given up"


@pytest.mark.parametrize("sdk", ["async"], indirect=True)  # a thread cannot be cancelled
async def test_a_client_that_closes_frees_its_job(
    sdk: AsyncOpenAI, worker: FakeWorker, app: Application
) -> None:
    asking = asyncio.create_task(sdk.responses.create(**ASK))
    held = await worker.next()
    await held.say(Started(prompt_tokens=1), TextDelta(text="a"))
    asking.cancel()
    while len(app.service.inbox):
        await asyncio.sleep(0.005)
    assert (await held.say(TextDelta(text="b"))).name == "CANCELLED"
    await held.say(Failed(code="internal_error", message="over"))
