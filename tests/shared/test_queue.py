"""The queue's scripts: each promise on a fake and on real servers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from shared import codec, keys, presence
from shared.control import Cancel
from shared.errors import QueueFull, UnknownModel
from shared.events import Event, Failed, Finished, Frame, TextDelta, TokenRun
from shared.queue import Emit, Ending, Outcome, Queue, Verdict, Written
from shared.requests import Generate, Prompt

MODEL = "ai/test:latest"
REPLY = keys.replies("api-1")
HOUR_S = 3600


def ask(job: str, *, tenant: str = "open", lane: str = "interactive") -> Generate:
    return msgspec.convert(
        {
            "type": "generate",
            "id": job,
            "model": MODEL,
            "input": {"type": "prompt", "text": "hi"},
            "tenant": tenant,
            "lane": lane,
        },
        Generate,
    )


def frame(job: str, number: int, *events: Event, ids: bytes = b"") -> bytes:
    tokens = (TokenRun(0, ids),) if ids else ()
    return codec.encode(Frame(job, number, events, tokens))


def text(job: str, number: int, word: str = "x") -> bytes:
    return frame(job, number, TextDelta(text=word), ids=b"\1\0\0\0")


@pytest.fixture
async def queue(redis: Redis) -> Queue:
    await presence.add_model(redis, presence.ModelCard(ref=MODEL, created=0))
    return Queue(redis, lease_ms=HOUR_S * 1000)


async def put(queue: Queue, *jobs: str, **more: str) -> None:
    for job in jobs:
        await queue.enqueue(ask(job, **more), reply=REPLY, cost=10)


async def take(queue: Queue, most: int = 1, worker: str = "w1") -> list[tuple[str, int]]:
    claimed = await queue.claim(MODEL, worker=worker, most=most)
    return [(claim.job, claim.epoch) for claim in claimed.claims]


async def expire_leases(queue: Queue) -> None:
    for job in await queue.redis.zrange(keys.leases(MODEL), 0, -1):
        await queue.redis.zadd(keys.leases(MODEL), {job: 1})


async def test_a_job_is_claimed_once_with_its_payload(queue: Queue) -> None:
    ticket = await queue.enqueue(ask("a"), reply=REPLY, cost=10)
    assert (ticket.position, ticket.depth) == (1, 1)
    claimed = await queue.claim(MODEL, worker="w1", most=5)
    assert [claim.verdict for claim in claimed.claims] == [Verdict.RUN]
    arq_job = codec.deserialize_for_arq(claimed.claims[0].payload)
    assert codec.decode_request(arq_job["a"][0]) == ask("a")
    assert claimed.next_expiry_s == pytest.approx(HOUR_S, abs=5)
    assert await take(queue, worker="w2") == []


async def test_unknown_model_is_refused_and_leaves_nothing(queue: Queue, redis: Redis) -> None:
    other = msgspec.structs.replace(ask("a"), model="ai/other:latest")
    with pytest.raises(UnknownModel, match="ai/other"):
        await queue.enqueue(other, reply=REPLY, cost=1)
    assert await redis.keys("*") == [keys.CATALOG.encode()]


async def test_a_full_queue_refuses(queue: Queue) -> None:
    await queue.enqueue(ask("a"), reply=REPLY, cost=1, max_queue=1)
    with pytest.raises(QueueFull):
        await queue.enqueue(ask("b"), reply=REPLY, cost=1, max_queue=1)
    assert (await queue.depths(MODEL))["interactive"] == 1


async def test_a_repeated_enqueue_changes_nothing(queue: Queue) -> None:
    await put(queue, "a", "b")
    again = await queue.enqueue(ask("a"), reply=REPLY, cost=10)
    assert (again.position, again.depth) == (1, 2)
    assert await take(queue, 5) == [("a", 1), ("b", 1)]
    assert (await queue.enqueue(ask("a"), reply=REPLY, cost=10)).position == 0
    assert await take(queue, 5) == []


async def test_interactive_goes_before_batch_and_positions_say_so(queue: Queue) -> None:
    await put(queue, "slow", lane="batch")
    await put(queue, "quick")
    assert await queue.position(MODEL, job="quick", lane="interactive") == 1
    assert await queue.position(MODEL, job="slow", lane="batch") == 2
    assert await take(queue, 5) == [("quick", 1), ("slow", 1)]
    assert await queue.position(MODEL, job="slow", lane="batch") == 0


async def test_a_flooding_tenant_does_not_starve_another(queue: Queue) -> None:
    await put(queue, *(f"flood{n:03}" for n in range(50)), tenant="flood")
    await take(queue, 10)
    await put(queue, "guest", tenant="guest")
    assert ("guest", 1) in await take(queue, 2)


async def test_weight_divides_the_turns(queue: Queue) -> None:
    for n in range(12):
        await queue.enqueue(ask(f"h{n:02}", tenant="heavy"), reply=REPLY, cost=10, weight=3)
        await queue.enqueue(ask(f"l{n:02}", tenant="light"), reply=REPLY, cost=10, weight=1)
    first = [job[0] for job, _ in await take(queue, 8)]
    assert first.count("h") == 6


async def test_wake_is_published(queue: Queue, redis: Redis) -> None:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.wake(MODEL))
        await pubsub.get_message(timeout=1)
        await put(queue, "a")
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        assert message["type"] == "message"


async def test_emit_writes_the_journal_and_publishes_one_message_a_channel(
    queue: Queue, redis: Redis
) -> None:
    await put(queue, "a", "b")
    await take(queue, 2)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(REPLY)
        await pubsub.get_message(timeout=1)
        emits = [Emit(job, 1, 1, text(job, 1)) for job in "ab"]
        assert (await queue.write(MODEL, emits))[0] == [Written.OK, Written.OK]
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        frames = codec.decode_frames(message["data"])
        assert [(one.job, one.number) for one in frames] == [("a", 1), ("b", 1)]
    rows = await redis.xrange(keys.journal("a"))
    assert rows == [(b"1-0", {b"f": text("a", 1)})]


@pytest.mark.parametrize("count", [1, 15, 16, 40])
async def test_any_number_of_frames_is_one_valid_array(
    queue: Queue, redis: Redis, count: int
) -> None:
    jobs = [f"j{n:02}" for n in range(count)]
    await put(queue, *jobs)
    await take(queue, count)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(REPLY)
        await pubsub.get_message(timeout=1)
        await queue.write(MODEL, [Emit(job, 1, 1, text(job, 1)) for job in jobs])
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        assert [one.job for one in codec.decode_frames(message["data"])] == jobs


async def test_a_repeated_frame_is_kept_once(queue: Queue, redis: Redis) -> None:
    await put(queue, "a")
    await take(queue)
    for _ in range(2):
        assert (await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))]))[0] == [Written.OK]
    assert await redis.xlen(keys.journal("a")) == 1


async def test_a_stale_epoch_writes_nothing(queue: Queue, redis: Redis) -> None:
    await put(queue, "a")
    await take(queue)
    await expire_leases(queue)
    assert await take(queue, worker="w2") == [("a", 2)]
    old = Ending(emit=Emit("a", 1, 1, frame("a", 1, Finished())), tenant="open")
    emitted, ended = await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))], [old])
    assert (emitted, ended) == ([Written.FENCED], [Written.FENCED])
    assert not await queue.release(MODEL, job="a", epoch=1)
    assert await redis.exists(keys.journal("a")) == 0
    assert (await queue.write(MODEL, [Emit("a", 2, 1, text("a", 1))]))[0] == [Written.OK]


async def test_a_zombie_cannot_write_while_its_job_waits_again(queue: Queue) -> None:
    await put(queue, "a")
    await take(queue)
    await expire_leases(queue)
    await queue.claim(MODEL, worker="w2", most=0)
    assert (await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))]))[0] == [Written.FENCED]


async def test_one_fenced_job_does_not_cost_the_others(queue: Queue) -> None:
    await put(queue, "a", "b")
    await take(queue, 2)
    emits = [Emit("a", 7, 1, text("a", 1)), Emit("b", 1, 1, text("b", 1))]
    assert (await queue.write(MODEL, emits))[0] == [Written.FENCED, Written.OK]


async def test_an_empty_frame_keeps_the_lease_and_writes_nothing(
    queue: Queue, redis: Redis
) -> None:
    await put(queue, "a")
    await take(queue)
    await expire_leases(queue)
    assert (await queue.write(MODEL, [Emit("a", 1, 1, b"")]))[0] == [Written.OK]
    assert await take(queue, worker="w2") == []
    assert await redis.exists(keys.journal("a")) == 0


async def test_expired_leases_go_back_to_the_head(queue: Queue) -> None:
    await put(queue, "first")
    await take(queue)
    await put(queue, "second")
    await expire_leases(queue)
    assert await take(queue, 5, worker="w2") == [("first", 2), ("second", 1)]


async def test_a_job_that_kills_without_progress_is_given_up(queue: Queue) -> None:
    await put(queue, "poison")
    for _ in range(2):
        claimed = await queue.claim(MODEL, worker="w", most=1)
        assert claimed.claims[0].verdict is Verdict.RUN
        await expire_leases(queue)
    claimed = await queue.claim(MODEL, worker="w", most=1)
    assert claimed.claims[0].verdict is Verdict.CRASHED


async def test_progress_forgives_a_crash(queue: Queue) -> None:
    await put(queue, "a")
    for number in range(1, 6):
        claimed = await queue.claim(MODEL, worker="w", most=1)
        assert claimed.claims[0].verdict is Verdict.RUN
        await queue.write(MODEL, [Emit("a", number, number, text("a", number))])
        await expire_leases(queue)


async def test_a_late_job_is_marked(queue: Queue) -> None:
    await queue.enqueue(ask("a"), reply=REPLY, cost=1, deadline_ms=1)
    claimed = await queue.claim(MODEL, worker="w", most=1)
    assert claimed.claims[0].verdict is Verdict.LATE


async def test_release_hands_back_and_forgives(queue: Queue) -> None:
    await put(queue, "a")
    for epoch in range(1, 6):
        assert await take(queue) == [("a", epoch)]
        assert await queue.release(MODEL, job="a", epoch=epoch)
    claimed = await queue.claim(MODEL, worker="w", most=1)
    assert claimed.claims[0].verdict is Verdict.RUN


async def test_finish_drops_lease_and_payload_and_starts_the_lifetimes(
    queue: Queue, redis: Redis
) -> None:
    await put(queue, "a")
    await take(queue)
    ending = Ending(
        emit=Emit("a", 1, 1, frame("a", 1, Finished())),
        tenant="open",
        prompt_tokens=3,
        completion_tokens=4,
    )
    assert (await queue.write(MODEL, [], [ending]))[1] == [Written.OK]
    assert (await queue.write(MODEL, [], [ending]))[1] == [Written.REPEATED]
    assert await redis.exists(keys.payload("a"), keys.leases(MODEL)) == 0
    for key in (keys.job("a"), keys.journal("a")):
        assert 0 < await redis.ttl(key) <= keys.ENDED_TTL_S
    usage = await redis.hgetall(keys.tenant("open"))
    assert usage == {b"jobs": b"1", b"prompt_tokens": b"3", b"completion_tokens": b"4"}


async def test_cancel_takes_a_waiting_job_away(queue: Queue, redis: Redis) -> None:
    await put(queue, "a", "b")
    assert await queue.cancel(MODEL, job="a")
    assert await take(queue, 5) == [("b", 1)]
    assert await redis.exists(keys.payload("a")) == 0
    assert not await queue.cancel(MODEL, job="a")


async def test_cancel_tells_the_worker_and_stops_the_journal(queue: Queue, redis: Redis) -> None:
    await put(queue, "a")
    await take(queue)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.CONTROL)
        await pubsub.get_message(timeout=1)
        assert await queue.cancel(MODEL, job="a")
        message = await pubsub.get_message(timeout=5)
        assert message is not None
        assert codec.decode_control(message["data"]) == Cancel(job="a")
    assert (await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))]))[0] == [Written.CANCELLED]
    ending = Ending(
        emit=Emit("a", 1, 1, frame("a", 1, Failed(code="cancelled", message=""))),
        tenant="open",
    )
    assert (await queue.write(MODEL, [], [ending]))[1] == [Written.OK]


@pytest.mark.parametrize("how", ["finished", "cancelled in the queue"])
async def test_a_job_may_be_kept_longer(queue: Queue, redis: Redis, how: str) -> None:
    await queue.enqueue(ask("a"), reply=REPLY, cost=1, keep_s=5000)
    outcome = await queue.outcome("a")
    assert outcome == Outcome(state="queued", cancelled=False, ended_ms=0)
    if how == "finished":
        await take(queue)
        end = Ending(emit=Emit("a", 1, 1, frame("a", 1, Finished())), tenant="open")
        await queue.write(MODEL, [], [end])
        assert keys.ENDED_TTL_S < await redis.ttl(keys.journal("a")) <= 5000
    else:
        await queue.cancel(MODEL, job="a")
    assert keys.ENDED_TTL_S < await redis.ttl(keys.job("a")) <= 5000
    outcome = await queue.outcome("a")
    assert outcome is not None
    assert (outcome.is_over, outcome.cancelled) == (True, how != "finished")
    assert (outcome.ended_ms > 0) == (how == "finished")
    assert await queue.outcome("nobody") is None


async def test_frames_go_where_they_are_redirected_to(queue: Queue, redis: Redis) -> None:
    await put(queue, "a")
    await take(queue)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("elsewhere")
        await pubsub.get_message(timeout=1)
        assert await queue.redirect("a", reply="elsewhere")
        await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))])
        message = await pubsub.get_message(timeout=5)
    assert message is not None
    assert message["channel"] == b"elsewhere"
    assert not await queue.redirect("nobody", reply="elsewhere")
    assert not await redis.exists(keys.job("nobody"))


async def test_readers_hear_whether_they_have_missed_something(queue: Queue, redis: Redis) -> None:
    await put(queue, "a", "b", "gone", "odd", "left")
    await queue.cancel(MODEL, job="left")
    await take(queue, 4)
    for number in (1, 2):
        await queue.write(MODEL, [Emit("a", 1, number, text("a", number))])
    await redis.delete(keys.job("gone"))
    await redis.set(keys.journal("odd"), "not a stream", ex=HOUR_S)
    known = [("a", 2), ("a", 1), ("a", 0), ("b", 0), ("gone", 0), ("odd", 0), ("left", 0)]
    assert await queue.unheard(known) == {1, 2, 4, 5, 6}
    assert await queue.unheard(known[:1]) == set()


async def test_cancel_of_an_unknown_job_is_nothing(queue: Queue) -> None:
    assert not await queue.cancel(MODEL, job="nobody")


async def test_every_key_but_the_documented_ones_has_a_lifetime(queue: Queue, redis: Redis) -> None:
    await put(queue, "a", "b", "c")
    await take(queue, 2)
    await queue.write(MODEL, [Emit("a", 1, 1, text("a", 1))])
    eternal = {keys.CATALOG, keys.leases(MODEL), keys.lane(MODEL, "interactive")}
    for key in await redis.keys("*"):
        if key.decode() not in eternal:
            assert await redis.ttl(key) > 0, key


async def test_concurrent_claims_never_share_a_job(queue: Queue) -> None:
    await put(queue, *(f"j{n:02}" for n in range(40)))
    taken = await asyncio.gather(*(take(queue, 3, worker=f"w{n}") for n in range(20)))
    jobs = [job for some in taken for job, _ in some]
    assert len(jobs) == len(set(jobs)) == 40


def test_prompt_is_part_of_the_payload() -> None:
    request = Generate(id="a", model=MODEL, input=Prompt(text="hi"))
    assert codec.decode_request(codec.encode_request(request)) == request


def test_a_pickle_payload_is_refused() -> None:
    with pytest.raises(codec.BadPayload):
        codec.decode_request(b"\x80\x04K\x01.")
    with pytest.raises(codec.BadPayload):
        codec.decode_request(codec.VERSION + b"\x80\x04K\x01.")
