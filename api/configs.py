"""What `_configure` has set for models: kept in Redis, merged member by member, and applied.

A member stands alone in the hash, so two who configure at once lose nothing of each other's. Only
what is honoured is kept: today the reasoning budget, which requests get that say nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
from redis.asyncio import Redis

from shared import keys
from shared.requests import Chat, Generate, Request, Thinking

FRESH_S = 1.0
NO_LIMIT = -1


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model's settings; None where nobody set one. `reasoning_budget` in tokens, -1 = no
    limit, 0 = no reasoning."""

    reasoning_budget: int | None = None


class Configs:
    """Every model's settings. Raises redis.RedisError where it has to ask."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._found: dict[str, ModelConfig] = {}
        self._asked_s = float("-inf")

    async def merge(self, model: str, config: ModelConfig) -> None:
        """Set what is not None; the rest stays as it is."""
        given = {
            f"{model} {name}": msgspec.json.encode(value)
            for name, value in msgspec.structs.asdict(config).items()
            if value is not None
        }
        if given:
            await self._redis.hset(keys.CONFIGS, mapping=given)  # type: ignore[misc]
        self._asked_s = float("-inf")

    async def forget(self, models: Iterable[str] | None = None) -> None:
        """Back to the defaults: these models, or all."""
        wanted = None if models is None else set(models)
        fields = [
            field
            for field in await self._redis.hkeys(keys.CONFIGS)  # type: ignore[misc]
            if wanted is None or field.decode().rpartition(" ")[0] in wanted
        ]
        if fields:
            await self._redis.hdel(keys.CONFIGS, *fields)  # type: ignore[misc]
        self._asked_s = float("-inf")

    async def all(self) -> dict[str, ModelConfig]:
        """By model, as Redis has them now."""
        rows = await self._redis.hgetall(keys.CONFIGS)  # type: ignore[misc]
        found: dict[str, dict[str, object]] = {}
        for field, value in sorted(rows.items()):
            model, _, name = field.decode().rpartition(" ")
            found.setdefault(model, {})[name] = msgspec.json.decode(value)
        return {model: msgspec.convert(members, ModelConfig) for model, members in found.items()}

    async def applied(self, request: Request) -> Request:
        """The request with its model's settings, at most FRESH_S old, where it has none itself."""
        if time.monotonic() - self._asked_s > FRESH_S:
            self._asked_s = time.monotonic()  # before the answer: one question at a time
            self._found = await self.all()
        config = self._found.get(request.model)
        return apply(config, request) if config is not None else request


def apply(config: ModelConfig, request: Request) -> Request:
    """A chat that says nothing of thinking gets the model's budget."""
    budget = config.reasoning_budget
    if budget in (None, NO_LIMIT) or not isinstance(request, Generate):
        return request
    chat = request.input
    if not isinstance(chat, Chat) or chat.thinking != Thinking():
        return request
    thinking = Thinking(enabled=False) if budget == 0 else Thinking(budget=budget)
    return msgspec.structs.replace(request, input=msgspec.structs.replace(chat, thinking=thinking))
