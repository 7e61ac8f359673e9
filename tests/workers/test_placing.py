"""Loading, adopting, refusing and unloading: everything but llama.cpp, which is a hand engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from arq.connections import ArqRedis

from shared import keys, model_config, presence, storing
from shared.control import Delete, Unload
from shared.events import Finished
from shared.model_config import ModelConfig
from shared.presence import LoadedModel
from shared.settings import Settings
from tests.workers.home import ONE, THREE, TWO, Home, failure, is_card, other, shown
from tests.workers.models.test_gguf import PAIRS, model
from tests.workers.test_worker import until
from workers.survey import Survey, Waiting

NEED = 19_000_000  # more than one of these models takes, less than two


@pytest.fixture(autouse=True)
def cards_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers say of themselves outlasts a machine that stands still."""
    monkeypatch.setattr(keys, "WORKER_TTL_S", 600)
    monkeypatch.setattr(keys, "ADOPT_TTL_S", 600)


@pytest.fixture
async def home(fake_redis: ArqRedis, tmp_path: Path) -> AsyncIterator[Home]:
    home = Home(fake_redis, tmp_path)
    home.start()
    await home.ready()
    yield home
    await home.stop()


async def test_a_first_request_loads_the_model_and_is_told_how_long(home: Home) -> None:
    home.gate.clear()
    await home.put("a")
    await shown(home, is_card("loading", ONE, percent=42))
    assert home.loads == [ONE]
    home.gate.set()
    end = await home.end("a")
    assert isinstance(end, Finished)
    assert end.timings.load_ms > 0
    await home.put("b")
    again = await home.end("b")
    assert isinstance(again, Finished)
    assert again.timings.load_ms == 0
    await shown(home, is_card("ready", ONE))
    await until(lambda: not home.house.residents.loading)
    while await home.redis.exists(keys.loads(ONE), keys.adopt(ONE)):
        await asyncio.sleep(0)


async def test_others_speak_while_one_loads(home: Home) -> None:
    await home.put("a")
    await home.end("a")
    home.gate.clear()
    await home.put("b", TWO)
    await until(lambda: home.loads == [ONE, TWO])
    await home.put("c")
    assert isinstance(await home.end("c"), Finished)
    assert TWO not in home.served


async def test_a_caller_that_leaves_does_not_stop_the_load(home: Home) -> None:
    home.gate.clear()
    await home.put("a")
    await until(lambda: bool(home.loads))
    assert await home.queue.cancel(ONE, job="a")
    home.gate.set()
    await until(lambda: ONE in home.served)


async def test_the_least_recently_used_makes_room(home: Home) -> None:
    for job, ref in (("a", ONE), ("b", TWO), ("c", ONE), ("d", THREE), ("e", TWO)):
        await home.put(job, ref)
        assert isinstance(await home.end(job), Finished)
        assert home.house.residents.taken_bytes <= 40_000_000
    assert home.loads == [ONE, TWO, THREE, TWO]


async def failed_just_now(home: Home, **more: Any) -> None:
    """The last load of ONE failed in a moment that stays now, however slow the machine is."""
    last_ms = int(1000 * (await home.redis.time())[0]) + 3_600_000
    failures = {"last_ms": last_ms, "error": "", **more}
    await home.redis.hset(keys.loads(ONE), mapping=failures)
    await home.redis.expire(keys.loads(ONE), 60)


async def test_a_failed_load_fails_its_jobs_and_backs_off(home: Home) -> None:
    home.broken.add(ONE)
    await home.put("a")
    await home.put("b")
    first = await failure(home, "a")
    assert first.code == "model_load_failed"
    assert "unable to load ai/one:latest: tensor 'x' is missing" in first.message
    await failure(home, "b")
    error = (await home.redis.hget(keys.loads(ONE), "error")).decode()
    await failed_just_now(home, error=error)
    await home.put("c")
    assert "next try in" in (await failure(home, "c")).message
    assert home.loads == [ONE]
    await home.put("d", TWO)
    assert isinstance(await home.end("d"), Finished)


async def test_after_the_back_off_it_is_tried_again(home: Home) -> None:
    home.broken.add(ONE)
    await home.put("a")
    await failure(home, "a")
    home.broken.clear()
    await home.redis.hset(keys.loads(ONE), "last_ms", 1)
    await until(lambda: not home.served)
    await home.put("b")
    assert isinstance(await home.end("b"), Finished)
    assert home.loads == [ONE, ONE]


async def test_a_load_that_killed_its_worker_is_not_repeated_at_once(home: Home) -> None:
    await failed_just_now(home, attempts=1)
    await home.put("a")
    await home.put("b", TWO)
    await home.end("b")
    assert home.loads == [TWO]
    assert await home.queue.state("a") == "queued"


async def test_one_that_killed_its_workers_again_and_again_is_told(home: Home) -> None:
    await failed_just_now(home, attempts=3)
    await home.put("a")
    assert "ended its worker 3 times" in (await failure(home, "a")).message


async def test_nobody_has_room_for_it(fake_redis: ArqRedis, tmp_path: Path) -> None:
    home = Home(fake_redis, tmp_path, memory="1MB")
    home.start()
    await home.ready()
    await home.put("a")
    failed = await failure(home, "a")
    assert failed.code == "model_too_big"
    assert "most room for models has 1 MiB" in failed.message or "0 MiB" in failed.message
    assert not home.loads
    await home.stop()


async def test_another_has_room_for_it(fake_redis: ArqRedis, tmp_path: Path) -> None:
    home = Home(fake_redis, tmp_path, memory="1MB")
    await presence.show(fake_redis, other(memory_bytes=1 << 40))
    home.start()
    await home.ready()
    await home.put("a")
    while ONE not in home.house.placer._adoption.since:
        await asyncio.sleep(0)
    assert not home.served
    assert await home.queue.state("a") == "queued"
    await home.stop()


async def test_whom_another_serves_is_left_to_it(fake_redis: ArqRedis, tmp_path: Path) -> None:
    home = Home(fake_redis, tmp_path)
    await presence.show(fake_redis, other(LoadedModel(model=ONE)))
    home.start()
    await home.ready()
    await home.put("a")
    await until(lambda: ONE in home.house.placer._adoption.elsewhere)
    assert not home.loads
    await home.stop()


async def test_a_slow_one_gets_a_second_copy(fake_redis: ArqRedis, tmp_path: Path) -> None:
    home = Home(fake_redis, tmp_path)
    await presence.show(fake_redis, other(LoadedModel(model=ONE, load_s=0.1)))
    home.start()
    await home.ready()
    home.house.worker.claiming = False
    await home.put("a")
    await fake_redis.hset(keys.job("a"), "queued_ms", 1)
    home.house.placer.look_again()
    await until(lambda: ONE in home.served)
    assert home.served[ONE].tenure.extra
    home.house.worker.claiming = True
    home.house.worker.wake()
    assert isinstance(await home.end("a"), Finished)
    await home.stop()


async def test_two_workers_do_not_both_load_it(fake_redis: ArqRedis, tmp_path: Path) -> None:
    homes = [Home(ArqRedis(fake_redis.connection_pool), tmp_path, name) for name in ("w1", "w2")]
    for home in homes:
        await home.house.heartbeat.beat()
    for home in homes:
        home.gate.clear()
        home.start()
    await homes[0].ready()
    await homes[0].put("a")
    await until(lambda: any(home.loads for home in homes))
    for home in homes:
        home.house.placer.look_again()
    for home in homes:
        home.gate.set()
    assert isinstance(await homes[0].end("a"), Finished)
    assert sum(len(home.loads) for home in homes) == 1
    for home in homes:
        await home.stop()


async def test_a_card_seen_too_early_does_not_make_a_second_copy(fake_redis: ArqRedis) -> None:
    """Another shows the model and lets go of the lock, after this one has looked at the cards."""
    survey = Survey(fake_redis)
    assert await survey.workers() == ()
    await presence.show(fake_redis, other(LoadedModel(model=ONE)))
    assert not await survey.claim_load(ONE, "w1", extra=False)
    assert not await fake_redis.exists(keys.adopt(ONE), keys.loads(ONE))
    assert await survey.claim_load(ONE, "w1", extra=True)
    await survey.loaded(ONE)


@pytest.mark.parametrize("asked_s", [0.0, 0.05])
async def test_a_request_says_how_long_it_stays(home: Home, asked_s: float) -> None:
    await home.put("a", keep_alive_s=asked_s)
    await home.end("a")
    await until(lambda: not home.house.residents.has(ONE))


async def test_for_ever_is_for_ever(home: Home) -> None:
    await home.put("a", keep_alive_s=-1.0)
    await home.end("a")
    await shown(home, is_card("ready", ONE, keep_alive_s=-1.0, pinned=False))
    await model_config.merge(home.redis, ONE, ModelConfig(keep_alive_s=-1.0))
    await shown(home, is_card("ready", ONE, pinned=True))
    await home.redis.delete(keys.CONFIGS)


async def test_idle_models_are_unloaded_when_told_busy_ones_not(home: Home) -> None:
    await home.put("a")
    await home.end("a")
    home.words[ONE].go.clear()
    await home.put("b")
    await until(lambda: bool(home.served[ONE].publisher.runs))
    await home.order(Unload(model=ONE))
    await until(lambda: ONE in home.house.placer._told)
    await until(lambda: ONE not in home.house.placer._told)
    home.words[ONE].go.set()
    await home.end("b")
    assert ONE in home.served
    await home.order(Unload(model=ONE))
    await until(lambda: not home.house.residents.has(ONE))


async def test_a_deleted_model_serves_what_waits_and_goes(home: Home) -> None:
    await home.put("a")
    await home.end("a")
    home.house.worker.claiming = False
    await home.put("b")
    await home.order(Delete(model=ONE))
    await until(lambda: ONE in home.house.placer._doomed)
    assert ONE in home.served
    home.house.worker.claiming = True
    home.house.worker.wake()
    assert isinstance(await home.end("b"), Finished)
    home.house.placer.look_again()
    await until(lambda: not home.house.residents.has(ONE))


async def test_one_that_is_deleted_and_comes_back_stays(home: Home) -> None:
    home.house.placer.obey(Delete(model=ONE))
    for job, ref in (("a", ONE), ("b", TWO), ("c", ONE)):
        await home.put(job, ref)
        assert isinstance(await home.end(job), Finished)
    assert home.loads == [ONE, TWO]


async def test_jobs_of_a_model_that_is_no_more_are_told(home: Home) -> None:
    await presence.add_model(home.redis, presence.ModelCard(ref="ai/gone:latest", created=0))
    home.house.worker.claiming = False
    await home.put("a", "ai/gone:latest")
    await presence.remove_model(home.redis, "ai/gone:latest")
    home.house.placer.look_again()
    home.house.worker.claiming = True
    assert (await failure(home, "a")).code == "model_not_found"


async def test_a_model_that_came_in_the_middle_of_a_look_is_known(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog was read just before the model came, its queue just after."""
    placer, read, late = home.house.placer, home.house.placer._survey.models, [ONE]

    async def models() -> set[str]:
        known, waits = await read(), await home.queue.state("a")
        return known - {late.pop()} if late and waits else known

    monkeypatch.setattr(placer, "_library", SimpleNamespace(files={}))
    monkeypatch.setattr(placer._survey, "models", models)
    await home.put("a")
    assert isinstance(await home.end("a"), Finished)
    assert not late


async def test_a_model_that_is_ready_in_the_middle_of_a_look_is_not_idle(
    fake_redis: ArqRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has served nobody yet, and another waits for its room."""
    home = Home(fake_redis, tmp_path, memory="25MB")
    read, worker, looks = home.house.placer._survey.queues, home.house.worker, 0

    async def queues(refs: Collection[str]) -> dict[str, Waiting]:
        nonlocal looks
        found = await read(refs)
        if TWO in found and ONE in home.house.residents.loading:
            looks += 1
        if looks == 2 and not home.gate.is_set():
            worker.claiming = False
            home.gate.set()
            await until(lambda: ONE in home.served)
        elif not worker.claiming:
            worker.claiming = True
            worker.wake()
        return found

    monkeypatch.setattr(home.house.placer._survey, "queues", queues)
    home.start()
    await home.ready()
    home.gate.clear()
    await home.put("a")
    await until(lambda: ONE in home.house.residents.loading)
    await home.put("b", TWO)
    for job in ("a", "b"):
        assert isinstance(await home.end(job), Finished)
    assert home.loads == [ONE, TWO]
    await home.stop()


async def test_a_store_s_jobs_are_not_those_of_a_missing_model(home: Home) -> None:
    """A worker of the pool hears of them too, but they are for who keeps the store."""
    for at, queue in enumerate((storing.STORE, storing.queue_of("abc"))):
        task = storing.StoreTask(id=f"s{at}", model=queue, task=storing.Purge())
        await home.queue.enqueue(task, reply="r", cost=1)
    await home.put("a")
    assert isinstance(await home.end("a"), Finished)
    assert set(home.served) == {ONE}
    assert {await home.queue.state(job) for job in ("s0", "s1")} == {"queued"}


async def test_a_configuration_is_loaded_with(home: Home) -> None:
    await home.put("a")
    await home.end("a")
    await model_config.merge(home.redis, ONE, ModelConfig(context_size=32))
    await until(lambda: not home.house.residents.has(ONE))
    await home.put("b")
    await home.end("b")
    assert home.served[ONE].context == 32
    assert home.loads == [ONE, ONE]


async def test_given_models_are_loaded_at_the_start_and_kept(
    fake_redis: ArqRedis, tmp_path: Path
) -> None:
    home = Home(fake_redis, tmp_path, pool=False, memory="0")
    home.start()
    await until(lambda: len(home.served) == 3)
    home.house.placer.obey(Unload(model=ONE))
    assert len(home.served) == 3
    await home.order(Delete(model=ONE))
    await until(lambda: set(home.served) == {TWO, THREE})
    await model_config.merge(fake_redis, TWO, ModelConfig(context_size=16))
    await until(lambda: home.loads.count(TWO) == 2 and TWO in home.served)
    assert home.served[TWO].context == 16
    await home.stop()


async def test_a_given_model_that_cannot_be_loaded_stops_the_start(
    fake_redis: ArqRedis, tmp_path: Path
) -> None:
    home = Home(fake_redis, tmp_path, pool=False, memory="0")
    home.broken.add(TWO)
    home.start()
    with pytest.raises(Exception, match="unable to load ai/two"):
        await home.house.arrivals.failed()
    await home.stop()


async def test_a_configuration_that_does_not_work_is_left_out_at_the_start(
    fake_redis: ArqRedis, tmp_path: Path
) -> None:
    await model_config.merge(fake_redis, ONE, ModelConfig(context_size=2_000_000))
    home = Home(fake_redis, tmp_path, pool=False, memory="100MB")
    home.start()
    await until(lambda: len(home.served) == 3)
    assert home.served[ONE].context == 64
    await home.stop()


async def test_a_file_that_is_no_model_is_not_offered(fake_redis: ArqRedis, tmp_path: Path) -> None:
    home = Home(fake_redis, tmp_path)
    (tmp_path / "two.gguf").write_bytes(b"GGUF and nothing more")
    home.start()
    while await fake_redis.hlen(keys.CATALOG) < 2:
        await asyncio.sleep(0)
    await home.put("a", THREE)
    assert isinstance(await home.end("a"), Finished)
    assert set(await presence.catalog(fake_redis)) == {ONE, THREE}
    await home.stop()


async def test_a_dead_engine_claims_nothing(home: Home) -> None:
    await home.put("a")
    await home.end("a")
    home.served[ONE].engine.dead = True  # type: ignore[misc]
    await home.put("b")
    home.house.worker.wake()
    await home.put("c", TWO)
    await home.end("c")
    assert await home.queue.state("b") == "queued"


def test_the_models_here_have_the_size_the_tests_count_on(tmp_path: Path) -> None:
    from workers import memory
    from workers.models import gguf

    (tmp_path / "m.gguf").write_bytes(model(PAIRS))
    total = memory.need(gguf.read(tmp_path / "m.gguf"), Settings()).total
    assert NEED / 2 < total < NEED
