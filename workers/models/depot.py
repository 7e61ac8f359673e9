"""This process' model store, open for work: the files, transfers in and out, its place in the
catalog.

Every process of a host may have one on the same folder. A store has an ID of its own, in a file
beside its models, so that a folder shared by several hosts is one store.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace
from redis.asyncio import Redis

from shared import keys, presence, refs
from shared.model_errors import ModelNotFound
from shared.presence import ModelCard
from shared.settings import BadSetting, Settings, listed
from workers import local
from workers.models import cards, shelf
from workers.models.remote.options import RemoteOptions, docker_logins
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.remote.push import Pushes, open_pushes
from workers.models.store import disk
from workers.models.store.package import package, shards
from workers.models.store.store import Store, StoredModel, open_store
from workers.models.store.sweep import sweep

log = structlog.get_logger()

SIZE_AGE_S = 30.0


class Depot:
    """Made by `open_depot`; belongs to one event loop. `file` is the model that the settings give
    this worker as a plain file: its ref and path."""

    def __init__(
        self,
        redis: Redis,
        store: Store,
        *,
        pulls: Pulls,
        pushes: Pushes,
        file: tuple[str, Path] | None = None,
    ) -> None:
        self.redis = redis
        self.store = store
        self.id = store_id(store)
        self.pulls = pulls
        self.pushes = pushes
        self.file = file
        self.bytes = 0
        self._file_card: ModelCard | None = None
        self._cards: dict[tuple[str, tuple[str, ...]], ModelCard] = {}

    async def announce(
        self,
        *,
        origins: dict[str, str] | None = None,
        gone: Collection[str] = (),
        yields: bool = False,
    ) -> None:
        """Bring the catalog in line with the store. `origins` (ID to source) are of models that
        just came, `gone` and `yields` as in shelf.changes. Raises redis.RedisError."""

        async def change(pipe: Any) -> None:
            # Read behind the watch: what was read before it could be older than what another
            # announcement has said since, and would take that back.
            mine = await asyncio.to_thread(self._own_cards)
            mine = [replace(card, origin=(origins or {}).get(card.digest, "")) for card in mine]
            rows = await pipe.hgetall(keys.CATALOG)
            old = {ref.decode(): presence.unpack(row) for ref, row in rows.items()}
            todo = shelf.changes(old, mine, store=self.id, gone=gone, yields=yields)
            pipe.multi()
            for ref in todo.drop:
                pipe.hdel(keys.CATALOG, ref)
            for card in (*self._file_again(old, todo), *todo.put.values()):
                pipe.hset(keys.CATALOG, card.ref, presence.pack(card))

        await self.redis.transaction(change, keys.CATALOG)
        self.bytes = await asyncio.to_thread(self.store.disk_bytes)

    def _own_cards(self) -> list[ModelCard]:
        found = {}
        for model in self.store.all():
            key = (model.id, model.tags)
            found[key] = self._cards.get(key) or cards.of_stored(self.store, model)
        self._cards = found
        return list(found.values())

    def _file_again(self, old: dict[str, ModelCard], todo: shelf.Changes) -> list[ModelCard]:
        """The card of the settings' file, when a stored model that had its name is gone."""
        if self.file is None:
            return []
        ref = self.file[0]
        if (card := old.get(ref)) and not card.stores:
            self._file_card = card
        lost = ref in todo.drop and ref not in todo.put
        return [self._file_card] if lost and self._file_card else []

    def find(self, name: str) -> StoredModel:
        """A stored model; the settings' file is copied into the store when it is the one meant.
        Blocks. Raises ModelNotFound."""
        try:
            return self.store.get_loosely(name)
        except ModelNotFound:
            if self.file is None or not self._means_file(name):
                raise
            ref, path = self.file
            return package(self.store, shards(path), ref)

    def _means_file(self, name: str) -> bool:
        assert self.file is not None
        ref = self.file[0]
        last = refs.split_tag(ref)[0].rpartition("/")[2]
        return refs.normalize(name) == ref or name.strip().lower() == last

    async def serves_file(self, source: str) -> ModelCard | None:
        """The card of a model that some live worker serves from a plain file under this name."""
        ref = refs.normalize(source)
        card = await presence.model(self.redis, ref)
        if card is None or card.stores or not card.origin.startswith("file:"):
            return None
        workers = await presence.workers(self.redis)
        held = {loaded.model for worker, _ in workers for loaded in worker.models}
        return card if ref in held else None


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
        yield Depot(redis, store, pulls=pulls, pushes=pushes, file=plain_file(settings))


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


def plain_file(settings: Settings) -> tuple[str, Path] | None:
    """Ref and path of the file the settings give this worker, if they do."""
    with contextlib.suppress(BadSetting):
        return local.resolve(settings)
    return None


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
