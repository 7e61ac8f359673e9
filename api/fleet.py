"""What the workers and the catalog say of themselves, remembered for a second."""

from __future__ import annotations

import time
from collections.abc import Sequence

from redis.asyncio import Redis

from shared import presence, refs
from shared.errors import CannotLoad, UnknownModel
from shared.presence import ModelCard, WorkerCard

FRESH_S = 1.0
GONE_S = 60.0


class Fleet:
    """Who serves what, and how fast. Raises redis.RedisError where it has to ask."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._cards: tuple[WorkerCard, ...] = ()
        self._asked_s = float("-inf")
        self._seen: dict[str, float] = {}  # when some worker had a model

    async def workers(self, *, fresh: bool = False) -> tuple[WorkerCard, ...]:
        """The live workers' cards, at most FRESH_S old, or just now asked for."""
        if fresh or time.monotonic() - self._asked_s > FRESH_S:
            self._asked_s = time.monotonic()  # before the answer: one question at a time
            rows = await presence.workers(self._redis)
            self._cards = tuple(card for card, _ in rows)
            self._seen |= {one.model: self._asked_s for card in self._cards for one in card.models}
        return self._cards

    def outdated(self) -> None:
        """What was remembered is not to be believed any more."""
        self._asked_s = float("-inf")

    async def jobs_per_s(self, model: str) -> float:
        """How fast a model's queue drains, by the workers' own count; 0 when nobody knows."""
        return sum(
            loaded.jobs_per_s
            for card in await self.workers()
            for loaded in card.models
            if loaded.model == model and not card.draining
        )

    async def wait_s(self, model: str, *, jobs: int) -> float | None:
        """How long `jobs` take to be claimed; None when nobody knows."""
        rate = await self.jobs_per_s(model)
        return jobs / rate if rate > 0 else None

    async def loading_percent(self, model: str) -> int | None:
        """How far the model is loaded, by the worker that is furthest; None when one has it, or
        none is loading it."""
        lines = [
            loaded
            for card in await self.workers()
            for loaded in card.models
            if loaded.model == model and not card.draining
        ]
        if any(loaded.state == "ready" for loaded in lines):
            return None
        return max((one.percent for one in lines if one.state == "loading"), default=None)

    async def catalog(self) -> dict[str, ModelCard]:
        """Every model there is, by ref."""
        return await presence.catalog(self._redis)

    async def find(self, name: str) -> ModelCard:
        """A model by its name in any form, an alias or its ID. Raises UnknownModel."""
        ref = refs.normalize(name)
        if card := await self.model(ref):
            return card
        for card in (await self.catalog()).values():
            if ref in card.aliases or _is(card, name):
                return card
        raise UnknownModel.of(name)

    async def model(self, ref: str) -> ModelCard | None:
        """One model by its normalised name, None when there is none."""
        return await presence.model(self._redis, ref)

    async def require_home(self, ref: str) -> None:
        """Raises CannotLoad for a stored model for which nobody would ever come: workers are there,
        each for models of its own, and none has this one, nor had it lately: it may be one that
        starts again. Where no worker is at all, it waits for one."""
        cards, now_s = await self.workers(), time.monotonic()
        if not _shut_out(ref, cards) or now_s - self._seen.get(ref, float("-inf")) < GONE_S:
            return
        card = await self.model(ref)
        if card is not None and card.stores and _shut_out(ref, await self.workers(fresh=True)):
            raise CannotLoad(
                f"no worker serves {ref}: those that run were given models of their own; start one "
                f"with CARAVAN_POOL=true, which loads any model, or with CARAVAN_MODEL={ref}",
                param="model",
            )


def _shut_out(ref: str, cards: Sequence[WorkerCard]) -> bool:
    """Whether all that run have chosen, and not this. A worker without models has yet to begin."""
    there = [card for card in cards if card.pool or (card.models and not card.draining)]
    return bool(there) and not any(
        card.pool or any(one.model == ref for one in card.models) for card in there
    )


def _is(card: ModelCard, name: str) -> bool:
    digest = card.digest.removeprefix("sha256:")
    wanted = name.rpartition("@")[2].removeprefix("sha256:")
    return bool(digest) and refs.is_id(wanted) and digest.startswith(wanted)
