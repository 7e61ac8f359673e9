"""The worker between queue and engine: what it writes and survives. Fake Redis, hand engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared import bus, codec, keys, presence
from shared.events import Event, Failed, Finished, Frame, Started, TextDelta
from shared.queue import Claimed, Queue, Written
from shared.requests import Adapter, Chat, Detokenize, Generate, Prompt, Tokenize
from shared.settings import Settings
from tests.workers.hand_engine import HandEngine, end, token
from workers import jobs
from workers.claim import LeasedWorker
from workers.control import drain, hear
from workers.metrics import WorkerMetrics
from workers.served import Served

MODEL = "ai/test:latest"
REPLY = keys.replies("api-1")


class Words:
    """A text side without a model: a token a letter."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    def prepare(self, request: Generate, *, enqueued_s: float) -> SimpleNamespace:
        assert enqueued_s > 0
        assert isinstance(request.input, Prompt)
        text = request.input.text or ""
        if text == "bug":
            raise ZeroDivisionError(text)
        return SimpleNamespace(prompt=tuple(map(ord, text)), pipeline=None, mask=None, parts=())

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> tuple[int, ...]:
        assert isinstance(request.input, Prompt)
        return tuple(map(ord, request.input.text or ""))

    def detokenize(self, tokens: tuple[int, ...]) -> str:
        return "".join(map(chr, tokens))

    def piece(self, token: int) -> bytes:
        return chr(token).encode()


class House:
    """One worker with one model on a Redis that a test can break."""

    def __init__(self, redis: ArqRedis, name: str, *, slots: int = 4) -> None:
        settings = Settings(emit_interval_ms=0)
        self.redis = redis
        self.queue = Queue(redis, lease_ms=60_000)
        self.metrics = WorkerMetrics(name)
        self.engine: HandEngine
        self.served = Served(
            MODEL,
            Words(),  # type: ignore[arg-type]
            queue=self.queue,
            settings=settings,
            context=64,
            slots=slots,
            bytes=0,
            metrics=self.metrics.of(MODEL),
            open_engine=self._open,
        )
        self.worker = LeasedWorker(
            redis,
            self.queue,
            worker=name,
            served={MODEL: self.served},
            run=jobs.run,
            abandon=jobs.abandon,
            tick_s=60,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def _open(self, deliver: Callable[..., None]) -> HandEngine:
        self.engine = HandEngine(deliver)
        return self.engine

    def start(self) -> None:
        async def opened() -> None:
            self.worker.wake()

        self.tasks = [
            asyncio.create_task(self.served.publisher.run()),
            asyncio.create_task(self.worker.main()),
            asyncio.create_task(
                bus.listen(
                    self.redis,
                    [keys.CONTROL, keys.wake(MODEL)],
                    on_message=lambda channel, data: hear(self.worker, channel, data),
                    on_open=opened,
                )
            ),
        ]

    async def stop(self) -> None:
        pending = set(self.tasks)
        while pending:  # the fake's wait_for may swallow a cancel that races a message
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    async def submitted(self, key: str) -> None:
        await until(lambda: key in self.engine.submitted)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop run until `true()`; the test's own timeout is the limit."""
    while not true():
        await asyncio.sleep(0)


@pytest.fixture
async def house(fake_redis: ArqRedis) -> AsyncIterator[House]:
    await presence.add_model(fake_redis, presence.ModelCard(ref=MODEL, created=0))
    house = House(fake_redis, "w1")
    house.start()
    yield house
    await house.stop()


def ask(job: str, text: str = "hi", **more: object) -> Generate:
    return Generate(id=job, model=MODEL, input=Prompt(text=text), **more)  # type: ignore[arg-type]


async def put(house: House, request: Generate | Tokenize | Detokenize) -> None:
    await house.queue.enqueue(request, reply=REPLY, cost=1)


async def journal(house: House, job: str) -> list[Event]:
    frames = await bus.read_journal(house.redis, job)
    numbers = [frame.number for frame in frames]
    assert numbers == [1, *(frame.next_number for frame in frames[:-1])][: len(numbers)]
    return [event for frame in frames for event in frame.events]


async def ended(house: House, job: str) -> list[Event]:
    while True:
        frames = await bus.read_journal(house.redis, job)
        if frames and frames[-1].ended:
            return await journal(house, job)
        await asyncio.sleep(0)


async def test_a_job_streams_and_ends(house: House) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    assert house.engine.submitted["a:1"].prompt == (104, 105)
    house.engine.step(token("a:1", 1))
    house.engine.step(token("a:1", 2))
    house.engine.step(token("a:1", 3, end=end(completion=3)))
    events = await ended(house, "a")
    assert isinstance(events[0], Started)
    assert [one.text for one in events if isinstance(one, TextDelta)] == ["t1 ", "t2 ", "t3 "]
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.completion_tokens == 3
    await until(lambda: not house.worker.tasks)
    assert await house.redis.zcard(keys.leases(MODEL)) == 0
    assert await house.redis.exists(keys.payload("a"), keys.retry("a")) == 0


async def test_held_back_tokens_travel_with_the_next_frame(house: House) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1, text=""))
    house.engine.step(token("a:1", 2, end=end()))
    await ended(house, "a")
    frames = await bus.read_journal(house.redis, "a")
    from workers.runs import journaled_tokens

    assert journaled_tokens(frames, choices=1) == ((1, 2),)


async def test_a_prompt_over_the_context_says_both_numbers(house: House) -> None:
    await put(house, ask("a", "x" * 65))
    (failed,) = await ended(house, "a")
    assert isinstance(failed, Failed)
    assert failed.code == "context_length_exceeded"
    assert "65" in failed.message
    assert "64" in failed.message


async def test_a_bug_ends_one_job_only(house: House) -> None:
    await put(house, ask("bad", "bug"))
    (failed,) = await ended(house, "bad")
    assert isinstance(failed, Failed)
    assert failed.code == "internal_error"
    await put(house, ask("good"))
    await house.submitted("good:1")


async def test_a_payload_that_is_no_payload_ends_its_job(house: House) -> None:
    house.worker.claiming = False
    await put(house, ask("a"))
    await house.redis.set(keys.payload("a"), b"\x80\x04K\x01.", keepttl=True)
    house.worker.claiming = True
    house.worker.wake()
    (failed,) = await ended(house, "a")
    assert isinstance(failed, Failed)
    assert failed.code == "invalid_request"


async def test_a_cancelled_job_stops_and_its_slot_is_free(house: House) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1))
    assert await house.queue.cancel(MODEL, job="a")
    await until(lambda: "a:1" in house.engine.cancelled)
    house.engine.step(token("a:1", 2, end=end("cancelled")))
    await until(lambda: house.served.free == 4)
    assert isinstance((await ended(house, "a"))[-1], Finished)


async def test_a_crashed_workers_job_goes_on_where_it_was(
    house: House, fake_redis: ArqRedis
) -> None:
    await put(house, ask("a", max_tokens=9))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1))
    house.engine.step(token("a:1", 2))
    while len(await journal(house, "a")) < 3:
        await asyncio.sleep(0)
    await house.stop()  # as dead as in-process can be
    await fake_redis.zadd(keys.leases(MODEL), {"a": 1})
    heir = House(ArqRedis(fake_redis.connection_pool), "w2")
    heir.start()
    await heir.submitted("a:2")
    assert heir.engine.submitted["a:2"].resumed == ((1, 2),)
    assert heir.engine.submitted["a:2"].max_tokens == 9
    heir.engine.step(token("a:2", 3, end=end()))
    events = await ended(heir, "a")
    assert [one.text for one in events if isinstance(one, TextDelta)] == ["t1 ", "t2 ", "t3 "]
    assert sum(isinstance(one, Started) for one in events) == 1
    await heir.stop()


async def test_a_worker_that_slept_past_its_lease_writes_nothing(
    house: House, fake_redis: ArqRedis
) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1))
    while len(await journal(house, "a")) < 2:
        await asyncio.sleep(0)
    house.worker.claiming = False
    await fake_redis.zadd(keys.leases(MODEL), {"a": 1})
    heir = Queue(fake_redis)
    claimed: Claimed = await heir.claim(MODEL, worker="w2", most=1)
    assert claimed.claims[0].epoch == 2
    before = await journal(house, "a")
    house.engine.step(token("a:1", 2))
    await until(lambda: "a:1" in house.engine.cancelled)
    assert await journal(house, "a") == before
    assert house.served.free == 4


async def test_a_worker_that_reclaims_its_own_job_drops_the_old_run(
    house: House, fake_redis: ArqRedis
) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1))
    while len(await journal(house, "a")) < 2:
        await asyncio.sleep(0)
    await fake_redis.zadd(keys.leases(MODEL), {"a": 1})
    house.worker.wake()
    await house.submitted("a:2")
    assert "a:1" in house.engine.cancelled
    assert house.engine.submitted["a:2"].resumed == ((1,),)
    house.engine.step(token("a:2", 2, end=end()))
    assert len(await ended(house, "a")) == 4


async def test_writes_are_repeated_through_an_outage(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    real, failures = house.queue.write, iter([True] * 3)

    async def flaky(*args: object) -> tuple[list[Written], list[Written]]:
        if next(failures, False):
            raise RedisConnectionError("gone")
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(house.queue, "write", flaky)
    house.engine.step(token("a:1", 1))
    house.engine.step(token("a:1", 2, end=end()))
    events = await ended(house, "a")
    assert [one.text for one in events if isinstance(one, TextDelta)] == ["t1 ", "t2 "]


async def test_drain_hands_back_what_does_not_end(house: House) -> None:
    await put(house, ask("a"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1))
    await drain(house.worker, timeout_s=0)
    assert await house.redis.hget(keys.job("a"), "state") == b"queued"
    assert len(await journal(house, "a")) == 2
    await put(house, ask("b"))
    assert set(house.engine.submitted) == {"a:1"}


async def test_a_preempted_job_goes_back_with_its_journal(house: House) -> None:
    house.worker.claiming = True
    await put(house, ask("a", lane="batch"))
    await house.submitted("a:1")
    house.engine.step(token("a:1", 1, end=end("preempted")))
    await house.submitted("a:2")
    assert house.engine.submitted["a:2"].resumed == ((1,),)


async def test_no_more_jobs_are_claimed_than_there_are_slots(house: House) -> None:
    for number in range(6):
        await put(house, ask(f"j{number}"))
    await house.submitted("j3:1")
    assert len(house.engine.submitted) == 4
    house.engine.step(token("j0:1", 1, end=end()))
    await house.submitted("j4:1")


async def test_adapters_go_to_the_engine_by_name(house: House) -> None:
    house.served.adapters = ("facts", "style")
    wanted = (Adapter(name=1, scale=0.5), Adapter(name="facts", scale=2.0))
    await put(house, ask("j1", adapters=wanted))
    await house.submitted("j1:1")
    assert house.engine.submitted["j1:1"].adapters == (("facts", 2.0), ("style", 0.5))


async def test_an_adapter_that_is_not_there_is_refused_by_name(house: House) -> None:
    house.served.adapters = ("facts",)
    await put(house, ask("j1", adapters=(Adapter(name="style"),)))
    (failed,) = await ended(house, "j1")
    assert isinstance(failed, Failed)
    assert (failed.code, failed.param) == ("invalid_request", "lora")
    assert "'style'; it has 'facts' (id 0)" in failed.message
    assert not house.engine.submitted


async def test_tokenize_and_detokenize_need_no_engine(house: House) -> None:
    await put(house, Tokenize(id="t", model=MODEL, input=Prompt(text="hi")))
    tokens, finished = await ended(house, "t")
    assert getattr(tokens, "ids", None) == (104, 105)
    assert isinstance(finished, Finished)
    await put(house, Detokenize(id="d", model=MODEL, tokens=(104, 105)))
    assert getattr((await ended(house, "d"))[0], "text", None) == "hi"


async def test_prompt_text_is_never_printed(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await put(house, ask("a", "secret words"))
    await house.submitted("a:1")
    assert "secret" not in caplog.text


def test_frames_round_trip() -> None:
    frame = Frame("a", 1, (TextDelta(text="x"),))
    assert codec.decode_frames(b"\x91" + codec.encode(frame)) == (frame,)
    assert Chat(messages=()) == Chat(messages=())
