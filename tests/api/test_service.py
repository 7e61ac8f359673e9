"""Jobs are enqueued once, followed to their end, and cancelled when they are left."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from api import inbox as inbox_module
from api import job as job_module
from api.admission import cost_of
from api.app import Application, create_app
from api.fleet import Fleet
from api.job import Wait
from shared import keys
from shared.errors import ContextTooLong, QueueDown, QueueFull, UnknownModel
from shared.events import ChoiceEnd, Event, Failed, Finished, Started, TextDelta
from shared.messages import Message, Text
from shared.requests import Chat, Embed, Generate, Prompt
from shared.settings import Settings
from tests.api.fleet import MODEL, FakeWorker, said


def ask(job: str = "job-1", **more: object) -> Generate:
    hello = Message(role="user", content=(Text(text="hello you"),))
    return Generate(id=job, model=MODEL, input=Chat(messages=(hello,)), **more)  # type: ignore[arg-type]


def text_of(batches: list[tuple[Event, ...]]) -> str:
    return "".join(e.text for batch in batches for e in batch if isinstance(e, TextDelta))


async def test_a_job_streams_to_its_end(app: Application, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("a b c")), await app.service.start(ask()) as job:
        batches = [batch async for batch in job.batches()]
    assert text_of(batches) == "a b c "
    assert isinstance(job.end, Finished)
    assert worker.taken == [ask()]


async def test_messages_lost_by_pubsub_are_read_from_the_journal(
    app: Application, worker: FakeWorker
) -> None:
    async with await app.service.start(ask()) as job:
        held = await worker.next()
        await held.say(Started(prompt_tokens=1))
        await held.say(TextDelta(text="a "), publish=False)
        await held.say(TextDelta(text="b "))
        await held.say(TextDelta(text="c "), publish=False)  # and then a silence
        seen: list[tuple[Event, ...]] = []
        while text_of(seen) != "a b c ":
            seen.append(await job.take())
        await held.say(Finished(choices=(ChoiceEnd(),)))
        seen += [batch async for batch in job.batches()]
    assert text_of(seen) == "a b c "


async def test_a_silence_in_which_nothing_was_lost_reads_no_journal(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await app.service.start(ask()) as job:
        held = await worker.next()
        await held.say(Started(prompt_tokens=1))
        assert await job.take()
        reads: list[str] = []
        monkeypatch.setattr(job.box, "heal", lambda: reads.append("read"))
        assert await job.take() == ()
        assert reads == []
        monkeypatch.undo()
        await held.say(*said("lost")[1:], publish=False)
        assert text_of([batch async for batch in job.batches()]) == "lost "


async def test_a_first_frame_that_was_lost_is_found(app: Application, worker: FakeWorker) -> None:
    async with await app.service.start(ask()) as job:
        held = await worker.next()
        await held.say(*said("lost"), publish=False)
        assert text_of([batch async for batch in job.batches()]) == "lost "


async def test_collect_is_the_whole_answer(app: Application, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("a b")), await app.service.start(ask()) as job:
        done = await app.service.collect(job)
    assert done.choices[0].text == "a b "
    assert done.finished.usage.completion_tokens == 2
    assert done.started is not None


async def test_collect_raises_what_failed(app: Application, worker: FakeWorker) -> None:
    error = ContextTooLong.of(prompt_tokens=9000, context=8192)
    answering = worker.serving(lambda _: (error.event(),))
    async with answering, await app.service.start(ask()) as job:
        with pytest.raises(ContextTooLong, match="9000"):
            await app.service.collect(job)


async def test_leaving_a_queued_job_removes_it(app: Application, worker: FakeWorker) -> None:
    async with await app.service.start(ask()):
        assert await worker.queue.depths(MODEL) == {"interactive": 1, "batch": 0, "running": 0}
    assert await worker.queue.depths(MODEL) == {"interactive": 0, "batch": 0, "running": 0}
    assert await worker.queue.state("job-1") == "cancelled"


async def test_leaving_a_running_job_tells_its_worker(
    app: Application, worker: FakeWorker, fake_redis: ArqRedis
) -> None:
    async with fake_redis.pubsub() as orders:
        await orders.subscribe(keys.CONTROL)
        async with await app.service.start(ask()) as job:
            held = await worker.next()
            await held.say(Started(prompt_tokens=1))
            await job.take()
        assert (await orders.get_message(timeout=5))["type"] == "subscribe"
        assert b"job-1" in (await orders.get_message(timeout=5))["data"]
    assert (await held.say(TextDelta(text="x"))).name == "CANCELLED"
    assert len(app.service.inbox) == 0
    await fake_redis.delete(keys.journal("job-1"), keys.job("job-1"), keys.payload("job-1"))


async def test_a_job_that_ended_is_not_cancelled(app: Application, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("a")), await app.service.start(ask()) as job:
        await app.service.collect(job)
    assert await worker.queue.state(job.id) == "done"


async def test_a_job_cancelled_by_others_while_queued_ends(
    app: Application, worker: FakeWorker
) -> None:
    async with await app.service.start(ask(choices=2)) as job:
        await worker.queue.cancel(MODEL, job=job.id)
        done = await app.service.collect(job)
    assert [choice.end.reason for choice in done.choices] == ["cancelled", "cancelled"]


async def test_a_job_that_redis_lost_is_an_error(app: Application, fake_redis: ArqRedis) -> None:
    async with await app.service.start(ask()) as job:
        await fake_redis.flushall()
        (batch,) = [batch async for batch in job.batches()]
    assert isinstance(batch[-1], Failed)
    assert batch[-1].code == "unavailable"


async def test_unknown_model(app: Application) -> None:
    with pytest.raises(UnknownModel):
        await app.service.start(msgspec.structs.replace(ask(), model="ai/none:latest"))
    assert len(app.service.inbox) == 0


async def test_an_alias_and_an_id_find_the_model(app: Application, worker: FakeWorker) -> None:
    for n, name in enumerate(("ai/tiny:latest", "abababababab", "x/y@sha256:" + "ab" * 32)):
        asked = msgspec.structs.replace(ask(f"job-{n}"), model=name)
        async with await app.service.start(asked) as job:
            assert job.model == MODEL


async def test_a_full_queue_says_when_to_come_back(
    app: Application, worker: FakeWorker, fake_redis: ArqRedis, settings: Settings
) -> None:
    small = msgspec.structs.replace(settings, max_queue=10)
    other = create_app(small, ArqRedis(fake_redis.connection_pool))
    async with other.service.running():
        jobs = [await other.service.start(ask(f"job-{n}")) for n in range(10)]
        await worker.announce(jobs_per_s=0.25)
        other.service.fleet = Fleet(other.service.redis)  # it remembers cards for a second
        with pytest.raises(QueueFull) as caught:
            await other.service.start(ask("job-10"))
        assert caught.value.retry_after_s == 4.0
        for job in jobs:
            await job.close()


async def test_position_and_eta_come_from_the_queue_and_the_cards(
    app: Application, worker: FakeWorker
) -> None:
    async with await app.service.start(ask("job-1")), await app.service.start(ask("job-2")) as job:
        assert job.ticket.position == 2
        assert await job.take() == ()
        assert await job.wait() == Wait(2, eta_s=1.0)


async def test_no_job_without_an_open_inbox(
    settings: Settings, fake_redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "OPEN_WAIT_S", 0.01)
    app = create_app(settings, fake_redis)  # its lifespan has not begun: nobody listens
    with pytest.raises(QueueDown):
        await app.service.start(ask())
    assert await app.service.queue.state("job-1") is None


async def test_redis_gone_is_queue_down_and_the_cancel_is_told_later(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await app.service.start(ask())

    async def down(*_: object, **__: object) -> None:
        raise RedisConnectionError("gone")

    with monkeypatch.context() as outage:
        outage.setattr(app.service.redis, "execute_command", down)
        with pytest.raises(QueueDown):
            await app.service.start(ask("job-2"))
        await job.close()
    assert await worker.queue.state("job-1") == "queued"
    await app.service._tell_cancels()  # what the inbox calls when the subscription is open again
    assert await worker.queue.state("job-1") == "cancelled"


async def test_a_stream_sits_out_an_outage(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "OUTAGE_PAUSE_S", 0.001)
    async with await app.service.start(ask()) as job:
        held = await worker.next()
        await held.say(*said("a b"), publish=False)

        async def down(*_: object, **__: object) -> None:
            raise RedisConnectionError("gone")

        with monkeypatch.context() as outage:
            outage.setattr(app.service.redis, "execute_command", down)
            assert await job.take() == ()
            assert await job.take() == ()
        assert text_of([batch async for batch in job.batches()]) == "a b "


async def test_a_stream_does_not_wait_for_redis_for_ever(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "OUTAGE_PAUSE_S", 0.001)
    monkeypatch.setattr(job_module, "OUTAGE_S", 0.0)
    async with await app.service.start(ask()) as job:
        await worker.next()

        async def down(*_: object, **__: object) -> None:
            raise RedisConnectionError("gone")

        with monkeypatch.context() as outage:
            outage.setattr(app.service.redis, "execute_command", down)
            events: tuple[Event, ...] = ()
            while not events:
                events = await job.take()
    assert isinstance(job.end, Failed)
    assert job.end.code == "queue_unavailable"
    await app.service._tell_cancels()


async def test_a_request_cancelled_while_it_enqueues_leaves_no_job(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = asyncio.Event()
    enqueue = app.service.queue.enqueue

    async def slow(*args: object, **more: object) -> None:
        await enqueue(*args, **more)  # type: ignore[arg-type]
        accepted.set()
        await asyncio.Event().wait()  # the answer is on its way for ever

    monkeypatch.setattr(app.service.queue, "enqueue", slow)
    starting = asyncio.create_task(app.service.start(ask()))
    await accepted.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await worker.queue.state("job-1") == "cancelled"


def test_cost_is_prompt_characters_by_four_and_the_answer() -> None:
    assert cost_of(ask(max_tokens=100)) == 9 / 4 + 100
    assert cost_of(ask()) == 9 / 4 + 256
    assert cost_of(ask(max_tokens=10, choices=3)) == 9 / 4 + 30
    tokens = Generate(id="j", model=MODEL, input=Prompt(tokens=(1, 2, 3)), max_tokens=1)
    assert cost_of(tokens) == 4
    assert cost_of(Embed(id="j", model=MODEL, inputs=("abcd", (1, 2)))) == 3


async def test_a_job_carries_its_deadline(
    fake_redis: ArqRedis, settings: Settings, worker: FakeWorker
) -> None:
    patient = create_app(settings, ArqRedis(fake_redis.connection_pool))
    hasty = create_app(
        msgspec.structs.replace(settings, queue_timeout_s=30.0),
        ArqRedis(fake_redis.connection_pool),
    )
    found = []
    for app, job in ((patient, "job-1"), (hasty, "job-2")):
        async with app.service.running(), await app.service.start(ask(job)):
            row = await fake_redis.hmget(keys.job(job), "queued_ms", "deadline_ms")
            found.append(float(row[1]) - float(row[0]) if float(row[1]) else 0.0)
    assert found[0] == 0.0
    assert 0 < found[1] <= 30_000
