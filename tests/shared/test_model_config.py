"""A model's configuration in Redis: merged, read, forgotten, and told to the workers."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from arq.connections import ArqRedis

from shared import codec, keys, model_config
from shared.control import Configured
from shared.errors import RequestError
from shared.model_config import ModelConfig
from shared.settings import Settings

MODEL = "ai/smollm2:latest"


async def test_members_are_merged_one_by_one(fake_redis: ArqRedis) -> None:
    await model_config.merge(fake_redis, MODEL, ModelConfig(context_size=512, keep_alive_s=60))
    await model_config.merge(fake_redis, MODEL, ModelConfig(keep_alive_s=-1))
    await model_config.merge(fake_redis, "ai/other:latest", ModelConfig(slots=2))
    kept = await model_config.read(fake_redis, MODEL)
    assert kept == ModelConfig(context_size=512, keep_alive_s=-1)
    assert set(await model_config.read_all(fake_redis)) == {MODEL, "ai/other:latest"}
    await model_config.forget(fake_redis, [MODEL])
    assert await model_config.read(fake_redis, MODEL) == ModelConfig()
    assert await model_config.read_all(fake_redis) == {"ai/other:latest": ModelConfig(slots=2)}
    await model_config.forget(fake_redis)
    assert await model_config.read_all(fake_redis) == {}


async def test_a_change_is_told(fake_redis: ArqRedis) -> None:
    async with fake_redis.pubsub() as heard:
        await heard.subscribe(keys.CONTROL)
        await model_config.merge(fake_redis, MODEL, ModelConfig())
        await model_config.merge(fake_redis, MODEL, ModelConfig(slots=3))
        async with asyncio.timeout(5):
            while (message := await heard.get_message(timeout=1)) is None or (
                message["type"] != "message"
            ):
                pass
    assert codec.decode_control(message["data"]) == Configured(model=MODEL)


async def test_members_of_another_version_are_passed_over(fake_redis: ArqRedis) -> None:
    await fake_redis.hset(keys.CONFIGS, mapping={f"{MODEL} colour": b'"red"'})
    await model_config.merge(fake_redis, MODEL, ModelConfig(slots=3))
    assert (await model_config.read_all(fake_redis))[MODEL] == ModelConfig(slots=3)


@pytest.mark.parametrize("members", [{"slots": 0}, {"context_size": -1}, {"cache_type_k": "q3"}])
def test_what_cannot_be_is_refused_by_name(members: dict[str, object]) -> None:
    with pytest.raises(RequestError) as refused:
        model_config.of(**members)
    assert refused.value.param == next(iter(members))


async def test_what_does_not_go_with_what_was_set_before_is_refused(fake_redis: ArqRedis) -> None:
    await model_config.merge(fake_redis, MODEL, ModelConfig(cache_type_v="q8_0"))
    with pytest.raises(RequestError, match="q8_0 need flash attention") as refused:
        await model_config.merge(fake_redis, MODEL, ModelConfig(flash_attention="off", slots=2))
    assert refused.value.param == "flash_attention"
    assert await model_config.read(fake_redis, MODEL) == ModelConfig(cache_type_v="q8_0")
    both = ModelConfig(cache_type_v="f16", flash_attention="off")
    await model_config.merge(fake_redis, MODEL, both)
    assert await model_config.read(fake_redis, MODEL) == both


def test_settings_of_a_model_lie_over_the_workers() -> None:
    mine = Settings(context=100, slots=4, threads=2)
    seen = model_config.applied(model_config.of(context_size=0, slots=8, exact=True), mine)
    assert (seen.context, seen.slots, seen.threads, seen.exact) == (0, 8, 2, True)
    assert msgspec.structs.replace(seen, context=100, slots=4, exact=False) == mine
    seen = model_config.applied(model_config.of(cache_type_k="q8_0", flash_attention="on"), mine)
    assert (seen.cache_type_k, seen.cache_type_v, seen.flash_attention) == ("q8_0", "f16", "on")


def test_only_what_is_fixed_at_a_load_needs_one() -> None:
    base = ModelConfig(slots=2)
    assert not model_config.needs_load(base, ModelConfig(slots=2, keep_alive_s=3))
    assert model_config.needs_load(base, ModelConfig(slots=2, context_size=9))
