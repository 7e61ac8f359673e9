"""Stored responses: a conversation in order, its life, and who may see it."""

from __future__ import annotations

import msgspec
import pytest
from arq.connections import ArqRedis

from api.responses_store import Lost, ResponsesStore, StoredResponse
from shared import keys

TTL_S = 1000


def store(redis: ArqRedis, tenant: str = "one") -> ResponsesStore:
    return ResponsesStore(redis, tenant=tenant, ttl_s=TTL_S)


def stored(name: str, *before: str) -> StoredResponse:
    body = msgspec.json.encode({"id": name, "output": [{"id": f"{name} out"}]})
    return StoredResponse(body=body, input=[{"id": f"{name} in"}], before=before)


@pytest.fixture
async def three(fake_redis: ArqRedis) -> ResponsesStore:
    """Three responses, one continuing the other."""
    kept = store(fake_redis)
    for name, before in (("a", ()), ("b", ("a",)), ("c", ("a", "b"))):
        await kept.save(name, stored(name, *before))
    return kept


async def test_a_conversation_is_all_of_it_in_order(three: ResponsesStore) -> None:
    found = [item["id"] for one in await three.conversation("c") for item in one.items]
    assert found == ["a in", "a out", "b in", "b out", "c in", "c out"]
    assert await three.load("b") == stored("b", "a")


async def test_continuing_renews_all_of_it(three: ResponsesStore, fake_redis: ArqRedis) -> None:
    for name in "abc":
        await fake_redis.expire(keys.response("one", name), 10)
    await three.conversation("b")
    lives = [await fake_redis.ttl(keys.response("one", name)) for name in "abc"]
    assert [life > 10 for life in lives] == [True, True, False]


@pytest.mark.parametrize("gone", ["a", "b", "c"])
async def test_what_is_deleted_is_missed_by_name(three: ResponsesStore, gone: str) -> None:
    assert await three.delete(gone)
    assert not await three.delete(gone)
    assert await three.load(gone) is None
    with pytest.raises(Lost) as lost:
        await three.conversation("c")
    assert lost.value.response == gone


async def test_tenants_do_not_see_each_other(three: ResponsesStore, fake_redis: ArqRedis) -> None:
    other = store(fake_redis, "two")
    assert await other.load("a") is None
    assert not await other.delete("a")
    with pytest.raises(Lost):
        await other.conversation("c")
    assert await three.load("a") is not None
