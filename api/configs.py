"""What the api applies of a model's configuration: the reasoning budget, where a chat has none."""

from __future__ import annotations

import asyncio
import time

import msgspec
from redis.asyncio import Redis

from shared import model_config
from shared.model_config import ModelConfig
from shared.requests import Chat, Generate, Request, Thinking

FRESH_S = 1.0
NO_LIMIT = -1


class Configs:
    """Every model's configuration, at most FRESH_S old. Raises redis.RedisError."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._found: dict[str, ModelConfig] = {}
        self._asked_s = float("-inf")
        self._asking = asyncio.Lock()

    @property
    def _stale(self) -> bool:
        return time.monotonic() - self._asked_s > FRESH_S

    def outdated(self) -> None:
        """What was remembered has just been changed here."""
        self._asked_s = float("-inf")

    async def applied(self, request: Request) -> Request:
        """The request with what its model's configuration adds to it."""
        if self._stale:
            async with self._asking:  # who comes meanwhile waits for the answer too
                if self._stale:
                    self._found = await model_config.read_all(self._redis)
                    self._asked_s = time.monotonic()
        config = self._found.get(request.model)
        return apply(config, request) if config is not None else request


def apply(config: ModelConfig, request: Request) -> Request:
    """A chat that says nothing of thinking gets the model's budget; 0 is none at all."""
    budget = config.reasoning_budget
    if budget is None or budget == NO_LIMIT or not isinstance(request, Generate):
        return request
    chat = request.input
    if not isinstance(chat, Chat) or chat.thinking != Thinking():
        return request
    thinking = Thinking(enabled=False) if budget == 0 else Thinking(budget=budget)
    return msgspec.structs.replace(request, input=msgspec.structs.replace(chat, thinking=thinking))
