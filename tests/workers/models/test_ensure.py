"""A model of the catalog whose files are on another host: pulled from its origin, the very same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from shared import presence
from shared.errors import UnknownModel
from shared.model_errors import BadDigest
from shared.settings import Settings
from shared.storing import Pull
from tests.workers.models.store.files import add_model, gguf_bytes
from tests.workers.models.store.loopback import Answer, Asked, registry_of, serve
from workers.models.depot import Depot, open_depot
from workers.models.ensure import ensure
from workers.models.remote.options import RemoteOptions, Retry
from workers.models.store.store import open_store
from workers.store_tasks import perform

pytestmark = pytest.mark.redis
OPTIONS = RemoteOptions(retry=Retry(attempts=2, first_s=0.001, longest_s=0.01))


@asynccontextmanager
async def host(redis: ArqRedis, folder: Path) -> AsyncIterator[Depot]:
    """A host's store, announced."""
    async with open_depot(Settings(data_dir=str(folder)), redis, options=OPTIONS) as depot:
        await depot.announce(yields=True)
        yield depot


async def pull(depot: Depot, name: str, ref: str = "") -> str:
    task = Pull(source=name, ref=ref)
    return (await perform(depot, task, job="j", tell=lambda _: None)).id


async def test_from_the_recorded_origin(real_redis: ArqRedis, tmp_path: Path) -> None:
    remote = open_store(tmp_path / "remote")
    model = add_model(remote, tmp_path, "m", size=2_000_000)
    with serve(registry_of(remote, model.id)) as server:
        async with host(real_redis, tmp_path / "a") as a, host(real_redis, tmp_path / "b") as b:
            await pull(a, f"{server.host}/org/m:v1", ref="mine")
            heard = []
            bundle = await ensure(b, "ai/mine:latest", heard=heard.append)
            assert bundle.model.read_bytes() == (tmp_path / "a.gguf").read_bytes()
            assert heard[-1].done == heard[-1].size
            card = (await presence.catalog(real_redis))["ai/mine:latest"]
            assert set(card.stores) == {a.id, b.id}
            count = server.count("GET")
            await ensure(b, "mine")
            await ensure(b, model.id)
            assert server.count("GET") == count


async def test_a_tag_that_moved_at_the_registry_is_not_followed(
    real_redis: ArqRedis, tmp_path: Path
) -> None:
    remote = open_store(tmp_path / "remote")
    old = add_model(remote, tmp_path, "m", seed="old")
    new = add_model(remote, tmp_path, "m", seed="new")
    plays = {one.id: registry_of(remote, one.id) for one in (old, new)}
    latest = old.id

    def play(asked: Asked) -> Answer:
        digest = next((id_ for id_ in plays if asked.path.endswith(id_)), latest)
        if "/blobs/" in asked.path:
            answers = [one(asked) for one in plays.values()]
            return next((one for one in answers if one.status != 404), answers[0])
        return plays[digest](asked)

    with serve(play) as server:
        async with host(real_redis, tmp_path / "a") as a, host(real_redis, tmp_path / "b") as b:
            name = f"{server.host}/org/m:v1"
            assert await pull(a, name) == old.id
            latest = new.id
            bundle = await ensure(b, name)
    assert bundle.model.read_bytes() == gguf_bytes(seed="old")


async def test_callers_share_one_pull(real_redis: ArqRedis, tmp_path: Path) -> None:
    remote = open_store(tmp_path / "remote")
    model = add_model(remote, tmp_path, "m", size=2_000_000)
    with serve(registry_of(remote, model.id)) as server:
        async with host(real_redis, tmp_path / "a") as a, host(real_redis, tmp_path / "b") as b:
            await pull(a, f"{server.host}/org/m:v1")
            before = server.count("/blobs/")
            found = await asyncio.gather(*(ensure(b, f"{server.host}/org/m:v1") for _ in range(5)))
            assert len(set(map(str, found))) == 1
            assert server.count("/blobs/") == 2 * before


async def test_what_cannot_be_had_says_why(real_redis: ArqRedis, tmp_path: Path) -> None:
    async with host(real_redis, tmp_path / "a") as a, host(real_redis, tmp_path / "b") as b:
        with pytest.raises(UnknownModel, match="not found"):
            await ensure(b, "ai/none:latest")
        model = add_model(a.store, tmp_path, "loaded")
        a.store.untag("loaded")
        await a.announce()
        with pytest.raises(UnknownModel, match="hosts that have it are away"):
            await ensure(b, model.id)
        assert (await ensure(a, model.id)).model.exists()


async def test_other_bytes_under_its_digest_are_refused(
    real_redis: ArqRedis, tmp_path: Path
) -> None:
    remote = open_store(tmp_path / "remote")
    old = add_model(remote, tmp_path, "m", seed="old")
    new = add_model(remote, tmp_path, "m", seed="new")
    with serve(registry_of(remote, new.id)) as server:  # whatever it is asked for
        async with host(real_redis, tmp_path / "a") as a:
            card = replace(
                presence.ModelCard(ref=f"{server.host}/org/m:v1", created=0),
                digest=old.id,
                stores=("elsewhere",),
            )
            await presence.add_model(real_redis, card)
            with pytest.raises(BadDigest, match="is not on this host"):
                await ensure(a, card.ref)
            assert a.store.all() == []
