"""Events come in order, each once, whatever pub/sub lost."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import ArqRedis

from api import inbox as module
from api.inbox import Inbox, Mailbox
from shared import codec, keys
from shared.errors import Internal
from shared.events import Event, Finished, Frame, TextDelta

JOB = "job-1"


def words(first: int, last: int) -> tuple[TextDelta, ...]:
    """Events `first` to `last`, each with its number as text."""
    return tuple(TextDelta(text=str(n)) for n in range(first, last + 1))


def frame(first: int, last: int) -> Frame:
    return Frame(JOB, first, words(first, last))


def texts(events: tuple[Event, ...] | None) -> list[str]:
    assert events is not None
    return [event.text for event in events if isinstance(event, TextDelta)]


async def write(redis: ArqRedis, *frames: Frame) -> None:
    for one in frames:
        await redis.xadd(keys.journal(JOB), {"f": codec.encode(one)}, id=f"{one.number}-0")
    await redis.expire(keys.journal(JOB), 60)


async def test_frames_in_order_are_taken_together(fake_redis: ArqRedis) -> None:
    box = Mailbox(fake_redis, JOB)
    box.put(frame(1, 2))
    box.put(frame(3, 3))
    assert texts(await box.take(1)) == ["1", "2", "3"]


async def test_a_frame_twice_is_taken_once(fake_redis: ArqRedis) -> None:
    box = Mailbox(fake_redis, JOB)
    for one in (frame(1, 2), frame(1, 2), frame(3, 3)):
        box.put(one)
    assert texts(await box.take(1)) == ["1", "2", "3"]


async def test_only_the_new_tail_of_an_overlapping_frame_counts(fake_redis: ArqRedis) -> None:
    box = Mailbox(fake_redis, JOB)
    box.put(frame(1, 3))
    box.put(frame(2, 5))
    assert texts(await box.take(1)) == ["1", "2", "3", "4", "5"]


async def test_a_mailbox_says_which_frame_it_has(fake_redis: ArqRedis) -> None:
    await write(fake_redis, frame(1, 2), frame(3, 5), frame(6, 6))
    box = Mailbox(fake_redis, JOB)
    assert box.known == 0
    for one in (frame(1, 2), frame(3, 5), frame(1, 2)):
        box.put(one)
    await box.take(1)
    assert box.known == 3
    await box.heal()
    assert box.known == 6


async def test_a_gap_is_filled_from_the_journal(fake_redis: ArqRedis) -> None:
    await write(fake_redis, frame(1, 2), frame(3, 4), frame(5, 6))
    box = Mailbox(fake_redis, JOB)
    box.put(frame(1, 2))
    box.put(frame(5, 6))  # 3 and 4 were lost on the way
    assert texts(await box.take(1)) == ["1", "2"]
    assert texts(await box.take(1)) == ["3", "4", "5", "6"]


async def test_every_loss_is_healed_without_a_repeat(fake_redis: ArqRedis) -> None:
    frames = [frame(1, 1), frame(2, 4), frame(5, 5), frame(6, 8)]
    await write(fake_redis, *frames)
    for lost in range(2 ** len(frames)):
        box = Mailbox(fake_redis, JOB)
        for n, one in enumerate(frames):
            if not lost & 1 << n:
                box.put(one)
        box.doubt()
        seen: list[str] = []
        while len(seen) < 8:
            seen += texts(await box.take(1))
        assert seen == [str(n) for n in range(1, 9)]


async def test_a_frame_that_arrives_while_the_journal_is_read_counts_once(
    fake_redis: ArqRedis,
) -> None:
    await write(fake_redis, frame(1, 2), frame(3, 3))
    box = Mailbox(fake_redis, JOB)
    healing = asyncio.create_task(box.heal())
    await asyncio.sleep(0)
    box.put(frame(3, 3))
    assert texts(await healing) == ["1", "2", "3"]
    assert texts(await box.take(1)) == []


async def test_a_full_mailbox_leaves_the_rest_to_the_journal(
    fake_redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_FRAMES", 3)
    frames = [frame(n, n) for n in range(1, 8)]
    await write(fake_redis, *frames)
    box = Mailbox(fake_redis, JOB)
    for one in frames:
        box.put(one)
    assert texts(await box.take(1)) == ["1", "2", "3"]
    assert texts(await box.take(1)) == ["4", "5", "6", "7"]


async def test_silence_is_none_and_costs_no_read(fake_redis: ArqRedis) -> None:
    assert await Mailbox(fake_redis, JOB).take(0.001) is None


async def test_a_journal_with_a_hole_is_an_error_not_a_guess(fake_redis: ArqRedis) -> None:
    await write(fake_redis, frame(4, 5))
    box = Mailbox(fake_redis, JOB)
    box.doubt()
    with pytest.raises(Internal):
        await box.take(1)


async def test_a_failed_read_is_tried_again(fake_redis: ArqRedis) -> None:
    await fake_redis.set(keys.journal(JOB), "not a stream", ex=60)
    box = Mailbox(fake_redis, JOB)
    box.doubt()
    with pytest.raises(Exception, match="WRONGTYPE"):
        await box.take(1)
    await fake_redis.delete(keys.journal(JOB))
    await write(fake_redis, frame(1, 1))
    assert texts(await box.take(1)) == ["1"]


async def test_the_inbox_fans_out_and_survives_nonsense(fake_redis: ArqRedis) -> None:
    inbox = Inbox(fake_redis, "a1")
    async with inbox.running():
        box = await inbox.open(JOB)
        other = await inbox.open("job-2")
        publisher = ArqRedis(fake_redis.connection_pool)
        await publisher.publish(inbox.channel, b"\xc1 not msgpack")
        two = Frame("job-2", 1, (Finished(),))
        await publisher.publish(inbox.channel, codec.encode((frame(1, 1), two)))
        assert texts(await box.take(5)) == ["1"]
        assert await other.take(5) == (Finished(),)
        inbox.close(box)
        assert len(inbox) == 1


async def test_a_new_subscription_puts_every_mailbox_in_doubt(fake_redis: ArqRedis) -> None:
    inbox = Inbox(fake_redis, "a1")
    async with inbox.running():
        box = await inbox.open(JOB)
    await write(fake_redis, frame(1, 3))  # nobody heard these
    async with inbox.running():
        assert texts(await box.take(5)) == ["1", "2", "3"]
