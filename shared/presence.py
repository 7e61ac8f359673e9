"""Who is there: worker cards (a hash with a short life) and the catalog of models."""

from __future__ import annotations

from typing import Literal

import msgspec
from redis.asyncio import Redis

from shared import keys, refs


class LoadedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model in one worker. `slots_busy` counts sequences that prefill or decode.

    `percent` is how far it is loaded, `load_s` how long that took; `bytes` all the memory it takes;
    `pinned` ones are never unloaded to make room; `last_used_ms` is 0 until it is used. `adapters`
    are the LoRA adapters that requests may name.
    """

    model: str
    state: Literal["loading", "ready", "unloading"] = "ready"
    context: int = 0
    slots: int = 0
    slots_busy: int = 0
    cells: int = 0
    cells_used: int = 0
    waiting: int = 0
    tokens_per_s: float = 0.0
    jobs_per_s: float = 0.0
    bytes: int = 0
    last_used_ms: int = 0
    keep_alive_s: float | None = None
    percent: int = 100
    load_s: float = 0.0
    pinned: bool = False
    adapters: tuple[str, ...] = ()


class WorkerCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself once a second. `store` is the ID of the store it keeps, if it
    keeps one, and `store_bytes` what that takes on disk.

    `pool`: it loads any model of the catalog. Its models may take `memory_bytes` together, of which
    `memory_free_bytes` are not taken and `memory_pinned_bytes` never will be free.
    """

    id: str
    host: str
    pid: int
    device: str
    started_ms: int
    draining: bool = False
    models: tuple[LoadedModel, ...] = ()
    store: str = ""
    store_bytes: int = 0
    pool: bool = False
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    memory_pinned_bytes: int = 0


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What the catalog knows of a model. `created` in Unix seconds, `size` in bytes.

    Of a stored model `digest` is its ID, `stores` who has it, `config` the artifact's own words and
    `metadata` the GGUF header's. A model without names is called by its ID. `packaged_context` in
    tokens, 0 where the package has none. `damaged` says why it cannot be used.
    """

    ref: str
    created: int
    digest: str = ""
    origin: str = ""
    architecture: str = ""
    parameters: int = 0
    quantization: str = ""
    size: int = 0
    context: int = 0
    template: str = ""
    capabilities: tuple[str, ...] = ("completion",)
    aliases: tuple[str, ...] = ()
    license: str = ""
    stores: tuple[str, ...] = ()
    config: dict[str, str] = {}
    metadata: dict[str, str | int] = {}
    packaged_context: int = 0
    damaged: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Every name it has."""
        return () if refs.is_id(self.ref) else (self.ref, *self.aliases)


_cards = msgspec.msgpack.Decoder(WorkerCard)
_models = msgspec.msgpack.Decoder(ModelCard)


def pack(card: ModelCard) -> bytes:
    """A card as it stands in Redis."""
    return msgspec.msgpack.encode(card)


def unpack(raw: bytes) -> ModelCard:
    """The card in `pack`'s bytes."""
    return _models.decode(raw)


async def show(redis: Redis, card: WorkerCard, *, metrics: bytes = b"") -> None:
    """Write a worker's card; it lives keys.WORKER_TTL_S unless written again."""
    key = keys.worker(card.id)
    pipe = redis.pipeline(transaction=False)
    pipe.hset(key, mapping={"card": msgspec.msgpack.encode(card), "metrics": metrics})
    pipe.expire(key, keys.WORKER_TTL_S)
    await pipe.execute()


async def leave(redis: Redis, worker: str) -> None:
    """Take the card away: the worker is gone on purpose."""
    await redis.delete(keys.worker(worker))


async def workers(redis: Redis) -> list[tuple[WorkerCard, bytes]]:
    """Every live worker's card and metrics (Prometheus text), by id."""
    names = sorted([name async for name in redis.scan_iter(match=keys.WORKERS, count=1000)])
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.hmget(name, ["card", "metrics"])
    rows = await pipe.execute() if names else []
    return [(_cards.decode(card), metrics or b"") for card, metrics in rows if card]


async def add_model(redis: Redis, card: ModelCard) -> None:
    """Put a model into the catalog, or its newer facts over the old."""
    await redis.hset(keys.CATALOG, mapping={card.ref: msgspec.msgpack.encode(card)})  # type: ignore[misc]


async def remove_model(redis: Redis, ref: str) -> None:
    """Take a model out of the catalog: from now on it is unknown."""
    await redis.hdel(keys.CATALOG, ref)  # type: ignore[misc]


async def catalog(redis: Redis) -> dict[str, ModelCard]:
    """Every model there is, by ref."""
    rows = await redis.hgetall(keys.CATALOG)  # type: ignore[misc]
    return {ref.decode(): _models.decode(row) for ref, row in sorted(rows.items())}


async def model(redis: Redis, ref: str) -> ModelCard | None:
    """One model, None when there is none of this ref."""
    row = await redis.hget(keys.CATALOG, ref)  # type: ignore[misc]
    return _models.decode(row) if row else None
