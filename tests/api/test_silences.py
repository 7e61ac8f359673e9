"""Silent streams ask together; each has its own answer, and nobody takes another's with him."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from api import silences as module
from api.silences import Silences
from shared.queue import Queue


class Asked(Queue):
    """Answers that odd jobs have missed something, and notes what it was asked."""

    def __init__(self, redis: ArqRedis, *, down: bool = False) -> None:
        super().__init__(redis)
        self.calls: list[Sequence[tuple[str, int]]] = []
        self._down = down

    async def unheard(self, known: Sequence[tuple[str, int]]) -> set[int]:
        self.calls.append(known)
        if self._down:
            raise RedisConnectionError
        return {place for place, (job, _) in enumerate(known) if int(job) % 2}


async def test_those_that_ask_at_a_time_are_one_question(fake_redis: ArqRedis) -> None:
    queue = Asked(fake_redis)
    silences = Silences(queue)
    answers = await asyncio.gather(*(silences.missed(str(n), known=n) for n in range(5)))
    assert answers == [False, True, False, True, False]
    assert await silences.missed("7", known=0)
    assert queue.calls == [[(str(n), n) for n in range(5)], [("7", 0)]]


async def test_a_question_has_a_limit(
    fake_redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    queue = Asked(fake_redis)
    silences = Silences(queue)
    answers = await asyncio.gather(*(silences.missed(str(n), known=0) for n in range(5)))
    assert answers == [False, True, False, True, False]
    assert [len(known) for known in queue.calls] == [2, 2, 1]


async def test_who_leaves_takes_no_answer_with_him(fake_redis: ArqRedis) -> None:
    silences = Silences(Asked(fake_redis))
    leaver, stayer = (asyncio.create_task(silences.missed(job, known=0)) for job in ("0", "1"))
    await asyncio.sleep(0)
    leaver.cancel()
    assert await stayer
    assert leaver.cancelled()


async def test_an_outage_is_everybodys_and_then_over(fake_redis: ArqRedis) -> None:
    queue = Asked(fake_redis, down=True)
    silences = Silences(queue)
    asking = (silences.missed(str(n), known=0) for n in range(2))
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in answers] == [RedisConnectionError] * 2
    queue._down = False
    assert await silences.missed("1", known=0)
