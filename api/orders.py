"""Orders from the api to the workers, for the dialects whose clients may give them."""

from __future__ import annotations

from api.service import Service
from shared import codec, keys
from shared.control import Unload


async def unload(service: Service, name: str) -> None:
    """Every worker drops this model when idle. Raises UnknownModel, redis.RedisError."""
    card = await service.fleet.find(name)
    await service.redis.publish(keys.CONTROL, codec.encode(Unload(model=card.ref)))
