"""A model's reasoning budget reaches the chats that say nothing of thinking, and no others."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from arq.connections import ArqRedis

from api.configs import Configs, apply
from shared import model_config
from shared.model_config import ModelConfig
from shared.requests import Chat, Embed, Generate, Prompt, Request, Thinking
from tests.api.fleet import MODEL

CHAT = Generate(id="j", model=MODEL, input=Chat(messages=()))


def thinking(thoughts: Thinking) -> Generate:
    return msgspec.structs.replace(CHAT, input=Chat(messages=(), thinking=thoughts))


@pytest.mark.parametrize(
    ("budget", "wanted"),
    [
        (None, Thinking()),
        (-1, Thinking()),
        (0, Thinking(enabled=False)),
        (7, Thinking(budget=7)),
    ],
)
def test_a_budget_is_for_chats_without_one(budget: int | None, wanted: Thinking) -> None:
    assert apply(ModelConfig(reasoning_budget=budget), CHAT) == thinking(wanted)


@pytest.mark.parametrize(
    "request_",
    [
        thinking(Thinking(budget=3)),
        thinking(Thinking(enabled=True)),
        Generate(id="j", model=MODEL, input=Prompt(text="a")),
        Embed(id="j", model=MODEL, inputs=("a",)),
    ],
)
def test_other_requests_stay_as_they_are(request_: Request) -> None:
    assert apply(ModelConfig(reasoning_budget=7), request_) is request_


async def test_the_first_requests_all_get_it(fake_redis: ArqRedis) -> None:
    await model_config.merge(fake_redis, MODEL, ModelConfig(reasoning_budget=7))
    configs = Configs(fake_redis)
    found = await asyncio.gather(*(configs.applied(CHAT) for _ in range(5)))
    assert found == [thinking(Thinking(budget=7))] * 5
    other = msgspec.structs.replace(CHAT, model="ai/other:latest")
    assert await configs.applied(other) is other
    await model_config.merge(fake_redis, MODEL, ModelConfig(reasoning_budget=0))
    configs.outdated()
    assert await configs.applied(CHAT) == thinking(Thinking(enabled=False))
