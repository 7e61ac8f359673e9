"""Responses in the background: nobody has to stay, and any api process can tell of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from arq.connections import ArqRedis
from openai import AsyncOpenAI

from api.app import Application, create_app
from shared import keys
from shared.errors import ContextTooLong
from shared.events import ChoiceEnd, Finished, ReasoningDelta, Started, TextDelta
from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.fleet import MODEL, FakeWorker, Held, said

ASK: dict[str, Any] = {"model": "smollm2", "input": "hi", "background": True}
CANCELLED = Finished(choices=(ChoiceEnd(reason="cancelled"),))


@pytest.fixture
async def sdk(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def other(fake_redis: ArqRedis, settings: Settings) -> AsyncIterator[AsyncOpenAI]:
    """A client of another api process."""
    app = create_app(settings, ArqRedis(fake_redis.connection_pool))
    async with (
        app.service.running(),
        serve(app) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


async def begun(held: Held) -> None:
    """A worker has said the first words."""
    await held.say(Started(prompt_tokens=1))
    await held.say(ReasoningDelta(text="hm"), TextDelta(text="one "))


async def ended(held: Held) -> None:
    """It has said the rest."""
    await held.say(TextDelta(text="two"))
    await held.say(Finished(choices=(ChoiceEnd(),)))


async def test_it_is_looked_at_until_it_is_done(
    sdk: AsyncOpenAI, other: AsyncOpenAI, worker: FakeWorker, app: Application
) -> None:
    made = await sdk.responses.create(**ASK)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    assert len(app.service.inbox) == 0
    assert (await other.responses.retrieve(made.id)) == made
    held = await worker.next()
    await begun(held)
    growing = await other.responses.retrieve(made.id)
    assert (growing.status, growing.output_text) == ("in_progress", "one ")
    assert [item.type for item in growing.output] == ["reasoning", "message"]
    await ended(held)
    done = await other.responses.retrieve(made.id)
    assert (done.status, done.output_text, done.created_at) == (
        "completed",
        "one two",
        made.created_at,
    )
    assert done.completed_at is not None
    assert await sdk.responses.retrieve(made.id) == done


async def test_what_is_done_outlives_its_job(
    sdk: AsyncOpenAI, worker: FakeWorker, fake_redis: ArqRedis, settings: Settings
) -> None:
    made = await sdk.responses.create(**ASK)
    await ended(await worker.next())
    for key in (keys.job(made.id), keys.journal(made.id)):
        assert keys.ENDED_TTL_S < await fake_redis.ttl(key) <= settings.responses_ttl_s
    done = await sdk.responses.retrieve(made.id)
    await fake_redis.delete(keys.job(made.id), keys.journal(made.id))
    assert (await sdk.responses.retrieve(made.id)) == done
    with pytest.raises(openai.BadRequestError, match="no longer kept"):
        await sdk.responses.retrieve(made.id, stream=True)


async def test_a_job_that_is_lost_is_a_failed_response(
    sdk: AsyncOpenAI, worker: FakeWorker, fake_redis: ArqRedis
) -> None:
    made = await sdk.responses.create(**ASK)
    await begun(await worker.next())
    await fake_redis.delete(keys.job(made.id))
    lost = await sdk.responses.retrieve(made.id)
    assert lost.error is not None
    assert (lost.status, lost.error.code, lost.output_text) == ("failed", "server_error", "one ")


async def test_a_job_that_fails_says_why(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    error = ContextTooLong.of(prompt_tokens=9, context=8)
    made = await sdk.responses.create(**ASK)
    async with worker.serving(lambda _: (error.event(),)):
        while (found := await sdk.responses.retrieve(made.id)).status == "queued":
            await asyncio.sleep(0.005)
    assert found.error is not None
    assert (found.status, found.error.code) == ("failed", "context_length_exceeded")


async def test_it_is_continued_when_it_has_ended(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    held = await worker.next()
    await begun(held)
    with pytest.raises(openai.BadRequestError, match="has not ended"):
        await sdk.responses.create(model="smollm2", input="so?", previous_response_id=made.id)
    await ended(held)
    async with worker.serving(lambda _: said("yes")):
        await sdk.responses.create(model="smollm2", input="so?", previous_response_id=made.id)
    asked: Any = worker.taken[-1]
    assert [message.text for message in asked.input.messages] == ["hi", "one two", "so?"]


async def test_a_queued_one_is_cancelled(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    for _ in range(2):
        assert (await sdk.responses.cancel(made.id)).status == "cancelled"
    assert (await sdk.responses.retrieve(made.id)).status == "cancelled"
    assert not (await worker.queue.depths(MODEL))["interactive"]


async def test_a_running_one_is_cancelled(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    held = await worker.next()
    await begun(held)
    cancelled = await sdk.responses.cancel(made.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "one ")
    assert (await held.say(TextDelta(text="two"))).name == "CANCELLED"
    await held.say(CANCELLED)
    assert (await sdk.responses.retrieve(made.id)).output_text == "one "
    done = await sdk.responses.cancel(made.id)
    assert done.status == "cancelled"


async def test_one_that_has_ended_stays_as_it_is(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    await ended(await worker.next())
    assert (await sdk.responses.cancel(made.id)).status == "completed"


async def test_deleting_one_stops_it(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    held = await worker.next()
    await sdk.responses.delete(made.id)
    assert (await held.say(TextDelta(text="a"))).name == "CANCELLED"
    await held.say(CANCELLED)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(made.id)


async def test_a_stream_goes_on_elsewhere_behind_the_last_event(
    sdk: AsyncOpenAI, other: AsyncOpenAI, worker: FakeWorker, app: Application
) -> None:
    stream = await sdk.responses.create(**ASK, stream=True)
    first: list[Any] = [await anext(stream)]
    assert first[0].type == "response.created"
    held = await worker.next()
    await begun(held)
    while first[-1].type != "response.output_text.delta":
        first.append(await anext(stream))
    await stream.close()
    while len(app.service.inbox):
        await asyncio.sleep(0.005)
    assert (await held.say(TextDelta(text="and "))).name == "OK"  # nobody listens: it goes on
    again = await other.responses.retrieve(
        first[0].response.id, stream=True, starting_after=first[-1].sequence_number
    )
    await ended(held)
    rest = [event async for event in again]
    kinds = [event.type for event in (*first, *rest)]
    numbers = [event.sequence_number for event in (*first, *rest)]
    assert numbers == list(range(len(numbers)))
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert rest[-1].response == await sdk.responses.retrieve(first[0].response.id)  # type: ignore[union-attr]
    assert rest[-1].response.output_text == "one and two"  # type: ignore[union-attr]


async def test_several_may_listen(sdk: AsyncOpenAI, worker: FakeWorker) -> None:
    made = await sdk.responses.create(**ASK)
    held = await worker.next()
    await begun(held)
    streams: Any = [await sdk.responses.retrieve(made.id, stream=True) for _ in range(3)]
    for stream in streams:
        assert (await anext(stream)).type == "response.created"
    await streams.pop().close()
    await ended(held)
    whole: Any = [[event async for event in stream] for stream in streams]
    whole.append([event async for event in await sdk.responses.retrieve(made.id, stream=True)][1:])
    for events in whole:
        events[-1].response.completed_at = None  # each by its own clock
        assert events == whole[0]
    assert whole[0][-1].response.output_text == "one two"


@pytest.mark.parametrize(
    ("path", "param"),
    [("?stream=true", None), ("?starting_after=1", "starting_after"), ("?stream=x", "stream")],
)
async def test_other_responses_do_not_stream_again(
    client: httpx.AsyncClient, worker: FakeWorker, path: str, param: str | None
) -> None:
    async with worker.serving(lambda _: said("hello")):
        asked = {"model": "smollm2", "input": "hi"}
        made = (await client.post("/v1/responses", json=asked)).json()
    answer = await client.get(f"/v1/responses/{made['id']}{path}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_what_is_not_stored_cannot_be_come_back_for(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.responses.create(**ASK, store=False)
    assert refused.value.param == "background"
