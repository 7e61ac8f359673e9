"""Orders from the api to the workers, for the dialects whose clients may give them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from api.service import Service
from shared import codec, keys
from shared.control import Unload

UNLOAD_WAIT_S = 2.5  # cards are written once a second
UNLOAD_LOOK_S = 0.05


async def unload(service: Service, name: str) -> None:
    """Every worker drops this model when idle. Raises UnknownModel, redis.RedisError."""
    card = await service.fleet.find(name)
    await service.redis.publish(keys.CONTROL, codec.encode(Unload(model=card.ref)))


async def unload_idle(service: Service, models: Iterable[str] | None) -> int:
    """Ask for these models, or all, to be dropped where they are idle; answers how many holders
    did within UNLOAD_WAIT_S, by their own cards. A worker with a fixed model keeps it, and is not
    counted. Raises redis.RedisError."""
    wanted = None if models is None else set(models)
    holders = {
        (worker, model)
        for worker, model in await _idle(service)
        if wanted is None or model in wanted
    }
    for model in sorted({model for _, model in holders}):
        await service.redis.publish(keys.CONTROL, codec.encode(Unload(model=model)))
    left, until_s = holders, time.monotonic() + UNLOAD_WAIT_S
    while left and time.monotonic() < until_s:
        await asyncio.sleep(UNLOAD_LOOK_S)
        left = holders & await _held(service)
    return len(holders) - len(left)


async def _idle(service: Service) -> set[tuple[str, str]]:
    return {
        (card.id, loaded.model)
        for card in await service.fleet.workers(fresh=True)
        for loaded in card.models
        if loaded.state == "ready" and not loaded.slots_busy and not loaded.waiting
    }


async def _held(service: Service) -> set[tuple[str, str]]:
    return {
        (card.id, loaded.model)
        for card in await service.fleet.workers(fresh=True)
        for loaded in card.models
        if loaded.state != "unloading"
    }
