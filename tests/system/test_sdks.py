"""The vendors' clients, each blocking and not, against a real model: what they ask for comes back
whole. What the answers look like in every case is the dialects' own tests'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import anthropic
import httpx
import ollama
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from deploy import embedding_model
from tests.as_if_async import AsIfAsync
from tests.system.fleet import MODEL, fleet

pytestmark = [
    pytest.mark.model,
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="module"),
]

MINILM = "ai/all-minilm"
HI: Any = [{"role": "user", "content": "What is the capital of France?"}]
SHORT = {"guided_choice": ["Paris.", "Rome."]}  # a small model may never end by itself
COLD: Any = {"temperature": 0}
WHERE: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
CLIENTS = {
    ("openai", "async"): openai.AsyncOpenAI,
    ("openai", "sync"): openai.OpenAI,
    ("anthropic", "async"): anthropic.AsyncAnthropic,
    ("anthropic", "sync"): anthropic.Anthropic,
    ("ollama", "async"): ollama.AsyncClient,
    ("ollama", "sync"): ollama.Client,
}


class City(BaseModel, extra="forbid"):
    """What is answered, and what a tool is called with."""

    city: Literal["Oslo", "Rome"]


SCHEMA: Any = City.model_json_schema()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def url() -> AsyncIterator[str]:
    """An api with one worker that serves a model of each kind."""
    if not embedding_model.model().exists():
        pytest.skip("`python -m deploy.embedding_model` makes all-MiniLM-L6-v2")
    async with fleet(model=f"{MODEL},{MINILM}={embedding_model.model()}") as house:
        house.api()
        house.worker()
        await house.ready()
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:
            async with asyncio.timeout(60):
                while len((await client.get("/v1/models")).json()["data"]) < 2:
                    await asyncio.sleep(0.05)
        yield house.url


@pytest_asyncio.fixture(loop_scope="module", params=["async", "sync"])
async def client(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Either kind of the vendor's client that the test is named after."""
    vendor = request.function.__name__.split("_")[1]
    base = {"openai": f"{url}/v1", "anthropic": f"{url}/anthropic"}.get(vendor)
    here: Any = {"base_url": base, "api_key": "none", "max_retries": 0} if base else {"host": url}
    one: Any = CLIENTS[vendor, request.param](**here)
    if request.param == "async":
        yield one
        await one._client.aclose()
    else:
        yield AsIfAsync(one)
        one._client.close()


async def test_openai_chats(client: Any) -> None:
    ask: Any = {"model": MODEL, "messages": HI, "temperature": 0, "extra_body": SHORT}
    whole = await client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
    (choice,) = whole.choices
    told = "".join(one.token for one in choice.logprobs.content)
    assert choice.finish_reason == "stop"
    assert told == choice.message.content
    assert told in SHORT["guided_choice"]
    assert all(len(one.top_logprobs) == 2 for one in choice.logprobs.content)
    assert whole.system_fingerprint.startswith("fp_")
    async with client.chat.completions.stream(**ask) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == choice.message.content


async def test_openai_parses_and_calls(client: Any) -> None:
    chats, ask = client.chat.completions, {"model": MODEL, "temperature": 0, "max_tokens": 60}
    parsed = await chats.parse(**ask, messages=WHERE, response_format=City)
    assert parsed.choices[0].message.parsed.city in ("Oslo", "Rome")
    tool = openai.pydantic_function_tool(City, name="weather")
    called = await chats.create(
        **ask, messages=WHERE, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = called.choices[0].message.tool_calls
    assert City.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "cold"}
    turns = [*WHERE, called.choices[0].message.to_dict(), result]
    told = await chats.create(**ask | {"max_tokens": 4}, messages=turns, tools=[tool])
    assert told.usage.completion_tokens


async def test_openai_embeds_and_lists(client: Any) -> None:
    found = await client.embeddings.create(model=MINILM, input=["a camel", "a stone"])
    assert [len(one.embedding) for one in found.data] == [384, 384]
    ids = [model.id async for model in client.models.list()]
    assert ids == [f"{MINILM}:latest", f"{MODEL}:latest"]
    assert (await client.models.retrieve(MODEL)).id == f"{MODEL}:latest"


async def test_openai_responds(client: Any) -> None:
    ask: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 8}
    one = await client.responses.create(**ask, input="Say hello.")
    assert one.output_text
    events = await client.responses.create(
        **ask, input="Again.", previous_response_id=one.id, stream=True
    )
    told = [event async for event in events]
    deltas = "".join(event.delta for event in told if event.type == "response.output_text.delta")
    last = told[-1].response
    assert (last.output_text, last.previous_response_id) == (deltas, one.id)
    assert last.usage.input_tokens > one.usage.input_tokens
    parsed = await client.responses.parse(
        **ask | {"max_output_tokens": 60}, input="Oslo or Rome?", text_format=City
    )
    assert parsed.output_parsed.city in ("Oslo", "Rome")


async def test_anthropic_writes(client: Any) -> None:
    ask: Any = {"model": MODEL, "messages": HI, "max_tokens": 8, "extra_body": COLD}
    whole = await client.messages.create(**ask)
    assert whole.content[0].type == "text"
    assert whole.stop_reason in ("max_tokens", "end_turn")
    async with client.messages.stream(**ask) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == final.content[0].text == whole.content[0].text
    count = await client.messages.count_tokens(model=MODEL, messages=HI)
    assert count.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with pytest.raises(anthropic.BadRequestError, match="does not reason"):
        await client.messages.create(**ask | {"max_tokens": 2000}, thinking=thinking)


async def test_anthropic_calls(client: Any) -> None:
    tools: Any = [{"name": "weather", "description": "", "input_schema": SCHEMA}]
    ask: Any = {"model": MODEL, "max_tokens": 60, "tools": tools, "extra_body": COLD}
    called = await client.messages.create(**ask, messages=WHERE, tool_choice={"type": "any"})
    call = called.content[-1]
    assert (called.stop_reason, call.type) == ("tool_use", "tool_use")
    assert City.model_validate(call.input)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "cold"}
    turns = [
        *WHERE,
        {"role": "assistant", "content": called.content},
        {"role": "user", "content": [result]},
    ]
    told = await client.messages.create(**ask | {"max_tokens": 4}, messages=turns)
    assert told.usage.output_tokens


async def test_ollama_answers(client: Any) -> None:
    options = {"temperature": 0, "num_predict": 8}
    whole = await client.chat(MODEL, HI, options=options)
    streamed = [one async for one in await client.chat(MODEL, HI, options=options, stream=True)]
    assert whole.message.content == "".join(one.message.content for one in streamed)
    assert whole.eval_count == streamed[-1].eval_count
    assert streamed[-1].done_reason in ("length", "stop")
    first = await client.generate(MODEL, HI[0]["content"], options=options)
    again = await client.generate(MODEL, "Again.", context=first.context, options=options)
    assert first.response == whole.message.content
    assert again.prompt_eval_count > first.prompt_eval_count
    long = {"temperature": 0, "num_predict": 60}
    city = await client.chat(MODEL, WHERE, format=SCHEMA, options=long)
    assert City.model_validate_json(city.message.content)


async def test_ollama_embeds_lists_and_calls(client: Any) -> None:
    assert len((await client.embed(MINILM, "a camel")).embeddings[0]) == 384
    names = [model.model for model in (await client.list()).models]
    assert names == ["all-minilm:latest", "smollm2:latest"]
    assert {model.model for model in (await client.ps()).models} == set(names)
    shown = await client.show(MODEL)
    assert "completion" in shown.capabilities
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    options = {"temperature": 0, "num_predict": 8}
    answer = await client.chat(MODEL, WHERE, tools=[tool], options=options)
    assert answer.message.content or answer.message.tool_calls
