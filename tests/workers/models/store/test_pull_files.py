"""Single GGUF files, by path and by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.model_errors import (
    BadDigest,
    BadReference,
    ModelNotFound,
)
from tests.workers.models.store.conftest import HASTY, OPTIONS, pulled, watch
from tests.workers.models.store.files import gguf_bytes, whole_blobs
from tests.workers.models.store.loopback import Answer, ranged, serve
from workers.models.gguf import BadModelFile
from workers.models.remote.options import RemoteOptions
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.store import digests
from workers.models.store.store import Store

SIZE = 400_000


async def test_a_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "My Model.gguf"
    path.write_bytes(gguf_bytes(3_000_000))
    options = RemoteOptions(retry=HASTY, file_roots=(tmp_path,))
    async with open_pulls(store, options) as pulls:
        progress, last = await watch(pulls.pull(f"file:{path}"))
        assert last.ref == "ai/my-model:latest"
        assert [(each.done, each.size) for each in progress][-1] == (path.stat().st_size,) * 2
        named = await pulled(pulls.pull(f"file:{path}", ref="org/own:v1"))
    assert store.bundle("org/own:v1").model.read_bytes() == path.read_bytes()
    assert named.id == last.id


@pytest.mark.parametrize("name", ["outside.gguf", "inside/../outside.gguf", "inside/link.gguf"])
async def test_only_from_allowed_folders(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.gguf").write_bytes(gguf_bytes())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.gguf").symlink_to(tmp_path / "outside.gguf")
    options = RemoteOptions(retry=HASTY, file_roots=(tmp_path / "inside",))
    async with open_pulls(store, options) as pulls:
        with pytest.raises(BadReference, match="not below a folder"):
            await watch(pulls.pull(f"file:{tmp_path / name}"))
    async with open_pulls(store, OPTIONS) as pulls:
        with pytest.raises(BadReference):
            await watch(pulls.pull(f"file:{tmp_path / name}"))


async def test_files_that_are_none(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"no model")
    options = RemoteOptions(retry=HASTY, file_roots=(tmp_path,))
    async with open_pulls(store, options) as pulls:
        with pytest.raises(ModelNotFound):
            await watch(pulls.pull(f"file:{tmp_path}/nothing.gguf"))
        with pytest.raises(BadModelFile):
            await watch(pulls.pull(f"file:{tmp_path}/bad.gguf"))
    assert (store.all(), whole_blobs(store)) == ([], [])


async def test_shards_beside_the_first(store: Store, tmp_path: Path) -> None:
    for at in (1, 2):
        path = tmp_path / f"x-0000{at}-of-00002.gguf"
        path.write_bytes(gguf_bytes(seed=str(at), **{"split.count": 2}))
    options = RemoteOptions(retry=HASTY, file_roots=(tmp_path,))
    async with open_pulls(store, options) as pulls:
        await watch(pulls.pull(f"file:{tmp_path}/x-00001-of-00002.gguf", ref="x"))
        with pytest.raises(BadModelFile, match="2 parts and 1"):
            await watch(pulls.pull(f"file:{tmp_path}/x-00002-of-00002.gguf", ref="y"))
    assert len(list(store.bundle("x").model.parent.iterdir())) == 2


async def test_a_url(store: Store, pulls: Pulls) -> None:
    whole = gguf_bytes(SIZE)
    digest = digests.of(whole)
    key = digests.hex_of(digest)
    partial = store.blobs.open_partial(key)
    partial.append(whole[:1000])
    partial.close()
    with serve(lambda request: ranged(request, whole)) as server:
        name = f"{server.url}/files/tiny.gguf?v=1#{digest}"
        last = await pulled(pulls.pull(name))
        assert [asked.offset for asked in server.asked] == [1000]
        assert (last.ref, last.cached) == ("ai/tiny:latest", False)
        assert (await pulled(pulls.pull(name))).cached
        wrong = "1" * 64
        with pytest.raises(BadDigest):
            await watch(pulls.pull(f"{server.url}/tiny.gguf#sha256:{wrong}", ref="wrong"))
    assert [model.tags for model in store.all()] == [("ai/tiny:latest",)]


async def test_a_url_that_is_no_model(store: Store, pulls: Pulls) -> None:
    page = b"<html>" * 100
    with serve(lambda request: Answer(body=page)) as server, pytest.raises(BadModelFile):
        await watch(pulls.pull(f"{server.url}/x.gguf#{digests.of(page)}"))
    assert store.all() == []
