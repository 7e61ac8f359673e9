"""A model's files on this host, brought from where the fleet got them if they are not here yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from redis.exceptions import RedisError

from shared import presence, refs
from shared.errors import CaravanError
from shared.model_errors import ModelNotFound
from shared.presence import ModelCard
from workers.models.depot import Depot
from workers.models.remote.progress import Progress
from workers.models.remote.pulling import Pulled
from workers.models.store.bundle import Bundle

Heard = Callable[[Progress], None]
NOT_OF_A_REGISTRY = ("file:", "https://", "http://", "hf.co/", "huggingface.co/")


async def ensure(depot: Depot, ref: str, *, heard: Heard = lambda progress: None) -> Bundle:
    """The files to open for a ref of the catalog (or an ID, or a name only this store knows).

    Shares a pull that is under way, and is a watcher of it like any client: the pull goes on while
    this waits. Raises shared.model_errors (ModelNotFound: neither here nor anywhere it could be
    pulled from), redis.RedisError.
    """
    card = await card_of(depot, ref)
    name = card.digest if card is not None and card.stores else ref
    try:
        return await asyncio.to_thread(depot.store.bundle, name)
    except ModelNotFound:
        if card is None or not card.stores:
            raise
    await fetch(depot, card, heard=heard)
    return await asyncio.to_thread(depot.store.bundle, card.ref)


async def fetch(depot: Depot, card: ModelCard, *, heard: Heard = lambda progress: None) -> None:
    """Pull a model of the catalog into this store, the very same one where its origin allows."""
    source = source_of(card)
    try:
        async with aclosing(depot.pulls.pull(source, ref=_tag_of(card))) as steps:
            async for step in steps:
                if isinstance(step, Pulled):
                    await _settle(depot, step, card)
                else:
                    heard(step)
    except CaravanError as error:
        error.message = f"{card.ref} is not on this host, and {source} gave: {error.message}"
        raise


def source_of(card: ModelCard) -> str:
    """Where to pull it from: a registry is asked for the exact manifest."""
    origin = card.origin or card.ref
    if refs.is_id(origin):
        raise ModelNotFound(
            f"model not found: {card.ref} has no name to pull it by, and the hosts that have it "
            "are away",
            param="model",
        )
    if origin.startswith(NOT_OF_A_REGISTRY):
        return origin
    return f"{refs.split_tag(origin)[0]}@{card.digest}"


def _tag_of(card: ModelCard) -> str:
    return "" if refs.is_id(card.ref) else card.ref


async def _settle(depot: Depot, pulled: Pulled, card: ModelCard) -> None:
    try:
        await depot.announce(origins={pulled.id: card.origin})
    except RedisError:  # the files are here; the catalog hears of them with the next change
        return


async def card_of(depot: Depot, ref: str) -> ModelCard | None:
    """The catalog's card of a model, by any of its names or its ID."""
    if card := await presence.model(depot.redis, ref):
        return card
    wanted = refs.normalize(ref)
    every = (await presence.catalog(depot.redis)).values()
    return next((card for card in every if wanted in card.tags or _is(card, wanted)), None)


def _is(card: ModelCard, name: str) -> bool:
    digits = name.rpartition("@")[2].removeprefix("sha256:")
    found = card.digest.removeprefix("sha256:")
    return bool(found) and refs.is_id(digits) and found.startswith(digits)
