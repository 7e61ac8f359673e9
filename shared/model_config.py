"""What `_configure` sets for one model, kept in Redis, merged member by member, read at each load.

A member stands alone in the hash (`<ref> <member>` -> JSON), so two who configure at once lose
nothing of each other's. None means: not set, the worker's own setting counts.
What does not go together is refused here as far as it is seen here, and else at the load.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from redis.asyncio import Redis

from shared import cache_types, codec, keys
from shared.cache_types import CacheType, FlashAttention
from shared.control import Configured
from shared.errors import RequestError
from shared.settings import Settings


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model's configuration; only what is honoured has a place here.

    `context_size` in tokens (0 = what the model was trained for), `keep_alive_s` negative = for
    ever (then it is not evicted either), 0 = unload when idle; the next eleven are a worker's
    settings of the same name, for this model; `reasoning_budget` in tokens (-1 = no limit) is the
    api's to apply.
    """

    context_size: Annotated[int, Meta(ge=0)] | None = None
    keep_alive_s: float | None = None
    slots: Annotated[int, Meta(ge=1, le=240)] | None = None
    cells: Annotated[int, Meta(ge=0)] | None = None
    prefill_budget: Annotated[int, Meta(ge=1)] | None = None
    prefix_cache: Annotated[int, Meta(ge=-1)] | None = None
    draft_max: Annotated[int, Meta(ge=0, le=64)] | None = None
    exact: bool | None = None
    threads: Annotated[int, Meta(ge=0)] | None = None
    gpu_layers: Annotated[int, Meta(ge=-1)] | None = None
    cache_type_k: CacheType | None = None
    cache_type_v: CacheType | None = None
    flash_attention: FlashAttention | None = None
    reasoning_budget: Annotated[int, Meta(ge=-1)] | None = None


MEMBERS = tuple(field.name for field in msgspec.structs.fields(ModelConfig))
APPLIED_LIVE = frozenset({"keep_alive_s", "reasoning_budget"})  # the others need a new load
AS_SETTINGS = {
    "context_size": "context",
    **{name: name for name in ("slots", "cells", "prefill_budget", "prefix_cache", "draft_max")},
    **{name: name for name in ("exact", "threads", "gpu_layers")},
    **{name: name for name in ("cache_type_k", "cache_type_v", "flash_attention")},
}


def of(**members: Any) -> ModelConfig:
    """A checked configuration. Raises RequestError that names the member."""
    for name, value in members.items():
        try:
            msgspec.convert({name: value}, ModelConfig)
        except msgspec.ValidationError as error:
            why = str(error).split(" - at ")[0]
            raise RequestError(f"{name}={value!r} cannot be: {why}", param=name) from error
    return ModelConfig(**members)


async def read(redis: Redis, model: str) -> ModelConfig:
    """One model's configuration, by its normal ref."""
    fields = [_field(model, name) for name in MEMBERS]
    rows = await redis.hmget(keys.CONFIGS, fields)  # type: ignore[misc]
    return _decode({name: row for name, row in zip(MEMBERS, rows, strict=True) if row is not None})


async def read_all(redis: Redis) -> dict[str, ModelConfig]:
    """Every configured model's, by ref."""
    found: dict[str, dict[str, bytes]] = {}
    rows = await redis.hgetall(keys.CONFIGS)  # type: ignore[misc]
    for field, row in sorted(rows.items()):
        model, _, name = field.decode().rpartition(" ")
        found.setdefault(model, {})[name] = row
    return {model: _decode(members) for model, members in found.items()}


async def merge(redis: Redis, model: str, config: ModelConfig) -> None:
    """Set what is not None, leave the rest, tell the workers. An idle model is loaded anew for its
    next request where that is needed; a busy one keeps what it has until it is idle.
    Raises RequestError for what cannot be beside what was set before."""
    chosen = {
        name: value for name, value in msgspec.structs.asdict(config).items() if value is not None
    }
    if not chosen:
        return
    _check(msgspec.structs.replace(await read(redis, model), **chosen))
    given = {_field(model, name): msgspec.json.encode(value) for name, value in chosen.items()}
    pipe = redis.pipeline(transaction=False)
    pipe.hset(keys.CONFIGS, mapping=given)
    pipe.publish(keys.CONTROL, codec.encode(Configured(model=model)))
    await pipe.execute()


async def forget(redis: Redis, models: Iterable[str] | None = None) -> None:
    """Back to the defaults: these models, or all."""
    present = await redis.hkeys(keys.CONFIGS)  # type: ignore[misc]
    wanted = None if models is None else set(models)
    fields = [
        (field, model)
        for field in present
        if (model := field.decode().rpartition(" ")[0]) and (wanted is None or model in wanted)
    ]
    if not fields:
        return
    pipe = redis.pipeline(transaction=False)
    pipe.hdel(keys.CONFIGS, *(field for field, _ in fields))
    for model in sorted({model for _, model in fields}):
        pipe.publish(keys.CONTROL, codec.encode(Configured(model=model)))
    await pipe.execute()


def applied(config: ModelConfig, settings: Settings) -> Settings:
    """A worker's settings with this model's laid over them."""
    given = {
        field: value
        for name, field in AS_SETTINGS.items()
        if (value := getattr(config, name)) is not None
    }
    return msgspec.structs.replace(settings, **given)


def needs_load(before: ModelConfig, after: ModelConfig) -> bool:
    """Whether a model loaded with `before` has to be loaded again to have `after`."""
    return any(
        getattr(before, name) != getattr(after, name)
        for name in MEMBERS
        if name not in APPLIED_LIVE
    )


def _check(config: ModelConfig) -> None:
    why = cache_types.fault(config.cache_type_v or "f16", config.flash_attention or "auto")
    if why:
        raise RequestError(f"flash_attention='off' cannot be: {why}", param="flash_attention")


def _field(model: str, name: str) -> str:
    return f"{model} {name}"


def _decode(members: dict[str, bytes]) -> ModelConfig:
    return msgspec.convert(
        {name: msgspec.json.decode(row) for name, row in members.items()}, ModelConfig
    )
