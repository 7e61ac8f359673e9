"""Orders from the api to the workers, for the dialects whose clients may give them."""

from __future__ import annotations

from api.service import Service
from shared import codec, keys
from shared.control import Unload
from shared.errors import UnknownModel


async def unload(service: Service, model: str) -> None:
    """Every worker drops this model when idle. Raises UnknownModel, redis.RedisError."""
    if await service.fleet.model(model) is None:
        raise UnknownModel.of(model)
    await service.redis.publish(keys.CONTROL, codec.encode(Unload(model=model)))
