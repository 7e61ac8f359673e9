"""Where a model's files are on this host, and how it is to be loaded: from the settings' own files,
else from the store, which pulls what the fleet knows and this host has not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from shared import model_config, presence
from shared.model_config import ModelConfig
from shared.model_errors import ModelNotFound
from shared.settings import Settings
from workers import load, local, memory
from workers.load import Order
from workers.models import adapters, gguf, projectors
from workers.models.depot import Depot
from workers.models.ensure import ensure
from workers.models.gguf import BadModelFile, ModelFacts
from workers.models.projectors import ProjectorFacts
from workers.models.remote.progress import Progress
from workers.models.store.bundle import Bundle
from workers.models.store.package import shards

log = structlog.get_logger()

Heard = Callable[[float], bool]


class Library:
    """Raises CaravanError for models that cannot be had, redis.RedisError where it has to ask."""

    def __init__(self, settings: Settings, redis: Redis, depot: Depot | None) -> None:
        self.files = local.files(settings)
        self.projectors = local.projectors(settings)
        self.adapters = local.adapters(settings)
        self._settings = settings
        self._redis = redis
        self._depot = depot
        self._facts: dict[tuple[Path, int, int], ModelFacts] = {}

    async def need_bytes(self, ref: str) -> int:
        """What the model would take, as far as is known without pulling it."""
        beside = sum(path.stat().st_size for path in self.adapters.get(ref, {}).values())
        return beside + await self._model_bytes(ref)

    async def _model_bytes(self, ref: str) -> int:
        if ref in self.files:
            return (await self._order_of_file(ref, await self._config(ref))).need.total
        card = await presence.model(self._redis, ref)
        if card is None:
            raise ModelNotFound.of(ref)
        if self._depot is None or self._depot.id not in card.stores:
            return card.size
        bundle = await asyncio.to_thread(self._depot.store.bundle, card.digest)
        return (await self._order_of(ref, bundle, await self._config(ref))).need.total

    async def order(self, ref: str, *, heard: Heard, plain: bool = False) -> Order:
        """How to load it, with its files here; `heard` follows a pull, 0 to 1. `plain`: without
        what was configured for it, which did not work."""
        order = await self._order_of_model(ref, heard=heard, plain=plain)
        return await asyncio.to_thread(self._adapted, order)

    async def _order_of_model(self, ref: str, *, heard: Heard, plain: bool) -> Order:
        config = ModelConfig() if plain else await self._config(ref)
        if ref in self.files:
            return await self._order_of_file(ref, config)
        if self._depot is None:
            raise ModelNotFound.of(ref)

        def pulled(progress: Progress) -> None:
            heard(progress.done / progress.total if progress.total else 0.0)

        return await self._order_of(ref, await ensure(self._depot, ref, heard=pulled), config)

    async def announce_files(self) -> None:
        """Offer the settings' own files, where the catalog does not know them yet. One that is no
        model is said in the log: the others are served."""
        known = await presence.catalog(self._redis)
        for ref in self.files:
            if ref in known:
                continue
            try:
                order = await self._order_of_file(ref, await self._config(ref))
            except (BadModelFile, OSError) as error:
                log.error("model.not_offered", model=ref, error=str(error))
                continue
            context = order.settings.context or order.facts.context_length
            await load.announce(self._redis, order, context=context)

    async def _config(self, ref: str) -> ModelConfig:
        return await model_config.read(self._redis, ref)

    async def _order_of_file(self, ref: str, config: ModelConfig) -> Order:
        facts, size_bytes = await asyncio.to_thread(self._read, self.files[ref])
        beside = self.projectors.get(ref)
        return load.order(
            ref,
            self.files[ref],
            facts,
            config,
            self._settings,
            size_bytes=size_bytes,
            projector=await asyncio.to_thread(projectors.read, beside) if beside else None,
            announce=True,
        )

    async def _order_of(self, ref: str, bundle: Bundle, config: ModelConfig) -> Order:
        facts, size_bytes = await asyncio.to_thread(self._read, bundle.model)
        if bundle.template is not None:
            text = await asyncio.to_thread(bundle.template.read_text, "utf-8", "replace")
            facts = replace(facts, chat_template=text)
        return load.order(
            ref,
            bundle.model,
            facts,
            config,
            self._settings,
            packaged_context=bundle.context_size or 0,
            size_bytes=size_bytes,
            projector=await asyncio.to_thread(_projector, bundle),
        )

    def _adapted(self, order: Order) -> Order:
        """With the adapters that the settings name for it."""
        files = self.adapters.get(order.ref, {})
        found = tuple(adapters.read(name, path, order.facts) for name, path in files.items())
        need = memory.with_adapters(order.need, sum(one.size_bytes for one in found))
        return replace(order, adapters=found, need=need)

    def _read(self, path: Path) -> tuple[ModelFacts, int]:
        """The header, read again only when the file is another; the bytes of all its shards."""
        stat = path.stat()
        key = (path, stat.st_size, stat.st_mtime_ns)
        if key not in self._facts:
            self._facts[key] = gguf.read(path)
        facts = self._facts[key]
        every = shards(path) if facts.split_count > 1 else [path]
        return facts, sum(one.stat().st_size for one in every)


def _projector(bundle: Bundle) -> ProjectorFacts | None:
    """A model whose projector cannot be read is served without."""
    if bundle.projector is None:
        return None
    try:
        return projectors.read(bundle.projector)
    except BadModelFile as error:
        log.warning("projector.unreadable", path=str(bundle.projector), error=str(error))
        return None


class Budget:
    """The memory that models may take: given, or measured at the start and again at each look."""

    def __init__(self, settings: Settings) -> None:
        self._gpu = memory.uses_gpu(settings)
        self._given = settings.memory_bytes
        self._first = self._given or memory.measure(gpu=self._gpu).to_give

    def total_bytes(self, *, taken_bytes: int) -> int:
        """All of it, when `taken_bytes` are taken by our models; less when others took memory."""
        if self._given:
            return self._given
        return min(self._first, taken_bytes + memory.measure(gpu=self._gpu).to_give)
