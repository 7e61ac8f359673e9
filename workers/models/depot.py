"""This process' model store, open for work: the files, transfers in and out, its place in the
catalog.

Every process of a host may have one on the same folder. A store has an ID of its own, in a file
beside its models, so that a folder shared by several hosts is one store.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from shared import codec, keys, presence, refs
from shared.control import Control, Delete, Unload
from shared.model_errors import ModelNotFound
from shared.presence import ModelCard
from shared.setting_values import listed
from shared.settings import BadSetting, Settings
from workers import local
from workers.models import cards, shelf
from workers.models.remote.options import RemoteOptions, docker_logins
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.remote.push import Pushes, open_pushes
from workers.models.store import disk
from workers.models.store.package import Extras, package, shards
from workers.models.store.store import Store, StoredModel, open_store
from workers.models.store.sweep import sweep

log = structlog.get_logger()

SIZE_AGE_S = 30.0


class Depot:
    """Made by `open_depot`; belongs to one event loop. `files` are the models that the settings
    give this worker as plain files, by ref, `projectors` what some of them see with."""

    def __init__(
        self,
        redis: Redis,
        store: Store,
        *,
        pulls: Pulls,
        pushes: Pushes,
        files: Mapping[str, Path] | None = None,
        projectors: Mapping[str, Path] | None = None,
    ) -> None:
        self.redis = redis
        self.store = store
        self.id = store_id(store)
        self.pulls = pulls
        self.pushes = pushes
        self.files = dict(files or {})
        self.projectors = dict(projectors or {})
        self.bytes = 0
        self._file_cards: dict[str, ModelCard] = {}
        self._cards: dict[tuple[str, tuple[str, ...]], ModelCard] = {}

    async def announce(
        self,
        *,
        origins: dict[str, str] | None = None,
        gone: Collection[str] = (),
        yields: bool = False,
    ) -> None:
        """Bring the catalog in line with the store. `origins` (ID to source) are of models that
        just came, `gone` and `yields` as in shelf.changes. Workers that hold what is gone, or is
        another model by now, are told. Raises redis.RedisError."""
        orders: list[Control] = []

        async def change(pipe: Any) -> None:
            # Read behind the watch: what was read before it could be older than what another
            # announcement has said since, and would take that back.
            mine = await asyncio.to_thread(self._own_cards)
            mine = [replace(card, origin=(origins or {}).get(card.digest, "")) for card in mine]
            rows = await pipe.hgetall(keys.CATALOG)
            old = {ref.decode(): presence.unpack(row) for ref, row in rows.items()}
            todo = shelf.changes(old, mine, store=self.id, gone=gone, yields=yields)
            pipe.multi()
            put = {**self._files_again(old, todo), **todo.put}
            for ref in todo.drop:
                pipe.hdel(keys.CATALOG, ref)
            for card in put.values():
                pipe.hset(keys.CATALOG, card.ref, presence.pack(card))
            orders[:] = _orders(old, put, todo.drop)

        await self.redis.transaction(change, keys.CATALOG)
        for order in orders:
            await self.redis.publish(keys.CONTROL, codec.encode(order))
        self.bytes = await asyncio.to_thread(self.store.disk_bytes)

    def _own_cards(self) -> list[ModelCard]:
        found = {}
        for model in self.store.all():
            key = (model.id, model.tags)
            found[key] = self._cards.get(key) or cards.of_stored(self.store, model)
        self._cards = found
        return list(found.values())

    def _files_again(self, old: dict[str, ModelCard], todo: shelf.Changes) -> dict[str, ModelCard]:
        """Cards of the settings' files, when the stored models that had their names are gone."""
        for ref in self.files:
            if (card := old.get(ref)) and not card.stores:
                self._file_cards[ref] = card
        lost = [ref for ref in todo.drop if ref in self._file_cards and ref not in todo.put]
        return {ref: self._file_cards[ref] for ref in lost}

    def find(self, name: str) -> StoredModel:
        """A stored model; a file of the settings is copied into the store when it is the one meant.
        Blocks. Raises ModelNotFound."""
        try:
            return self.store.get_loosely(name)
        except ModelNotFound:
            ref = next((ref for ref in self.files if _means(name, ref)), None)
            if ref is None:
                raise
            extras = Extras(projector=self.projectors.get(ref))
            return package(self.store, shards(self.files[ref]), ref, extras=extras)

    async def serves_file(self, source: str) -> ModelCard | None:
        """The card of a model that some live worker serves from a plain file under this name."""
        ref = refs.normalize(source)
        card = await presence.model(self.redis, ref)
        if card is None or card.stores or not card.origin.startswith("file:"):
            return None
        workers = await presence.workers(self.redis)
        held = {loaded.model for worker, _ in workers for loaded in worker.models}
        return card if ref in held or ref in self.files else None


@asynccontextmanager
async def open_depot(
    settings: Settings, redis: Redis, *, options: RemoteOptions | None = None
) -> AsyncIterator[Depot]:
    """The store of `settings`, swept, for as long as the block lasts; `options` in place of
    the settings'. Raises OSError when the folder cannot be written."""
    store = await asyncio.to_thread(open_store, settings.store)
    await asyncio.to_thread(sweep, store)
    options = options or remote_options(settings)
    async with open_pulls(store, options) as pulls, open_pushes(store, options) as pushes:
        files, projectors = local.files(settings), local.projectors(settings)
        yield Depot(redis, store, pulls=pulls, pushes=pushes, files=files, projectors=projectors)


def remote_options(settings: Settings) -> RemoteOptions:
    """Where models may come from. Raises BadSetting for a docker configuration that is none."""
    path = Path(settings.docker_config).expanduser()
    try:
        logins = docker_logins(path) if settings.docker_config else {}
    except (ValueError, OSError) as error:
        raise BadSetting(f"CARAVAN_DOCKER_CONFIG={settings.docker_config!r}: {error}") from error
    return RemoteOptions(
        mirrors=listed(settings.registry_mirrors),
        insecure=listed(settings.insecure_registries),
        logins=logins,
        file_roots=tuple(Path(root).expanduser() for root in listed(settings.model_roots)),
        max_pulls=settings.max_pulls,
    )


def _means(name: str, ref: str) -> bool:
    """Whether a name is the ref's, or its last path segment."""
    last = refs.split_tag(ref)[0].rpartition("/")[2]
    return refs.normalize(name) == ref or name.strip().lower() == last


def _orders(
    old: Mapping[str, ModelCard], put: Mapping[str, ModelCard], drop: Collection[str]
) -> list[Control]:
    """What workers that have a changed model loaded are to do."""
    gone: list[Control] = [Delete(model=ref) for ref in drop if ref not in put]
    others = [ref for ref, card in put.items() if ref in old and old[ref].digest != card.digest]
    return [*gone, *(Unload(model=ref) for ref in others if old[ref].stores)]


def store_id(store: Store) -> str:
    """The store's own ID, made when there is none."""
    path = store.root / "store.json"
    with disk.lock(store.root / "locks" / "store.lock"):
        try:
            return str(msgspec.json.decode(path.read_bytes(), type=dict[str, str])["id"])
        except (FileNotFoundError, msgspec.MsgspecError, KeyError):
            found = secrets.token_hex(6)
            disk.write_file(path, msgspec.json.encode({"id": found}))
            return found
