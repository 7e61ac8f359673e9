"""The Hugging Face Hub, spoken by a server of our own: choice, resume, gates, and HF_ENDPOINT."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.errors import CaravanError
from shared.model_errors import (
    BadDigest,
    ModelNotFound,
    RemoteDown,
    Unauthorized,
    UnsupportedArtifact,
)
from tests.workers.models.store.conftest import HASTY, pulled, watch
from tests.workers.models.store.files import gguf_bytes
from tests.workers.models.store.loopback import Answer, Asked, Loopback, Play, ranged, serve
from workers.models.remote.options import RemoteOptions
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.store import digests
from workers.models.store.manifest import parse
from workers.models.store.store import Store

REPOSITORY = "Org/Tiny-GGUF"
COMMIT = "c" * 40
FILES = {
    "README.md": b"# Tiny",
    "tiny-Q4_K_M.gguf": gguf_bytes(300_000, seed="Q4_K_M"),
    "tiny-Q8_0.gguf": gguf_bytes(300_000, seed="Q8_0", **{"general.file_type": 7}),
    "F16/tiny-F16-00001-of-00002.gguf": gguf_bytes(seed="F16-1", **{"split.count": 2}),
    "F16/tiny-F16-00002-of-00002.gguf": gguf_bytes(seed="F16-2"),
    "mmproj-tiny-F16.gguf": gguf_bytes(seed="mmproj"),
}


def sha256(raw: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(raw).hexdigest()


def hub(files: dict[str, bytes] = FILES, *, lfs: bool = True) -> Play:
    """The Hub's routes for one repository. Without `lfs` only a HEAD tells sizes and digests."""

    def sibling(name: str, raw: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": name}
        if lfs and name.endswith(".gguf"):
            entry["size"] = len(raw)
            entry["lfs"] = {"size": len(raw), "sha256": sha256(raw), "pointerSize": 134}
        return entry

    def play(asked: Asked) -> Answer:
        if asked.path == f"/api/models/{REPOSITORY}/revision/main":
            found = {
                "id": REPOSITORY,
                "sha": COMMIT,
                "lastModified": "2025-01-01T00:00:00.000Z",
                "siblings": [sibling(name, raw) for name, raw in files.items()],
            }
            return Answer(
                body=json.dumps(found).encode(), headers={"Content-Type": "application/json"}
            )
        name = asked.path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
        if name in files:
            headers = {"ETag": f'"{sha256(files[name])}"', "X-Repo-Commit": COMMIT}
            return ranged(asked, files[name], headers=headers)
        return Answer(status=404, headers={"X-Error-Code": "RepoNotFound"})

    return play


@asynccontextmanager
async def pulling(store: Store, server: Loopback) -> AsyncIterator[Pulls]:
    """Pulls whose Hub is the server."""
    options = RemoteOptions(retry=HASTY, hub_endpoint=server.url)
    async with open_pulls(store, options) as pulls:
        yield pulls


@pytest.mark.parametrize("lfs", [True, False])
@pytest.mark.parametrize(
    ("tag", "file", "quantization"),
    [("", "tiny-Q4_K_M.gguf", "Q4_K_M"), (":Q8_0", "tiny-Q8_0.gguf", "Q8_0")],
)
async def test_the_chosen_quantisation_and_its_projector(
    store: Store, tag: str, file: str, quantization: str, lfs: bool
) -> None:
    with serve(hub(lfs=lfs)) as server:
        async with pulling(store, server) as pulls:
            progress, last = await watch(pulls.pull(f"hf.co/{REPOSITORY}{tag}"))
        expected = {f"sha256:{sha256(FILES[name])}" for name in (file, "mmproj-tiny-F16.gguf")}
        assert {each.layer for each in progress} == expected
        assert server.count("README") == 0
    assert last.ref == f"huggingface.co/org/tiny-gguf{tag or ':latest'}"
    model = store.get(f"hf.co/org/tiny-gguf{tag}")
    assert (model.config.quantization, model.created) == (quantization, 1735689600)
    bundle = store.bundle(model.id)
    assert bundle.model.read_bytes() == FILES[file]
    assert bundle.projector is not None
    assert bundle.projector.read_bytes() == FILES["mmproj-tiny-F16.gguf"]


async def test_a_second_pull_is_cached_and_the_same_everywhere(store: Store, other: Store) -> None:
    with serve(hub()) as server:
        ids = set()
        for each, cached in ((store, False), (store, True), (other, False)):
            async with pulling(each, server) as pulls:
                last = await pulled(pulls.pull(f"hf.co/{REPOSITORY}"))
            ids.add(last.id)
            assert last.cached is cached
    assert len(ids) == 1


async def test_an_unknown_quantisation_lists_what_there_is(store: Store) -> None:
    with serve(hub()) as server:
        async with pulling(store, server) as pulls:
            with pytest.raises(ModelNotFound, match="no Q5_K_S; it has F16, Q4_K_M, Q8_0"):
                await watch(pulls.pull(f"hf.co/{REPOSITORY}:Q5_K_S"))
        assert server.count("resolve") == 0
    assert store.all() == []


async def test_shards_come_whole(store: Store) -> None:
    with serve(hub()) as server:
        async with pulling(store, server) as pulls:
            last = await pulled(pulls.pull(f"hf.co/{REPOSITORY}:F16"))
    folder = store.bundle(last.id).model.parent
    for at in (1, 2):
        name = f"-0000{at}-of-00002.gguf"
        assert (folder / f"model{name}").read_bytes() == FILES[f"F16/tiny-F16{name}"]


async def test_a_download_is_resumed(store: Store) -> None:
    raw = FILES["tiny-Q8_0.gguf"]
    partial = store.blobs.open_partial(sha256(raw))
    partial.append(raw[:123_456])
    partial.close()
    with serve(hub()) as server:
        async with pulling(store, server) as pulls:
            await watch(pulls.pull(f"hf.co/{REPOSITORY}:Q8_0"))
        offsets = [asked.offset for asked in server.asked if "Q8_0" in asked.path]
    assert offsets == [123_456]


async def test_bytes_that_are_not_what_the_hub_says(store: Store) -> None:
    honest = hub()

    def play(asked: Asked) -> Answer:
        answer = honest(asked)
        if asked.method == "GET" and "resolve" in asked.path:
            return Answer(body=answer.body[:-1] + b"!")
        return answer

    with serve(play) as server:
        async with pulling(store, server) as pulls:
            with pytest.raises(BadDigest):
                await watch(pulls.pull(f"hf.co/{REPOSITORY}"))
    assert store.all() == []


async def test_a_file_whose_digest_the_hub_does_not_tell(store: Store) -> None:
    """A small file kept in git itself: its ETag is a git id, only its size can be checked."""
    honest = hub(lfs=False)

    def play(asked: Asked) -> Answer:
        answer = honest(asked)
        headers = {**answer.headers, "ETag": '"' + "a" * 40 + '"'}
        return Answer(status=answer.status, body=answer.body, headers=headers)

    with serve(play) as server:
        async with pulling(store, server) as pulls:
            last = await pulled(pulls.pull(f"hf.co/{REPOSITORY}:Q8_0"))
    layer = parse(store.manifest_raw(last.id)).layers[0]
    assert layer.digest == digests.of(FILES["tiny-Q8_0.gguf"])


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (401, "RepoNotFound", ModelNotFound, "private and needs a token"),
        (404, "RepoNotFound", ModelNotFound, "private and needs a token"),
        (404, "RevisionNotFound", ModelNotFound, "not found"),
        (403, "GatedRepo", Unauthorized, "accept its terms"),
        (401, "GatedRepo", Unauthorized, "accept its terms"),
        (403, "", Unauthorized, "check the token"),
        (429, "", RemoteDown, "pass a token"),
        (500, "", RemoteDown, "answers 500"),
    ],
)
async def test_what_the_hub_may_answer(
    store: Store, status: int, code: str, error: type[CaravanError], words: str
) -> None:
    headers = {"X-Error-Code": code} if code else {}
    with serve(lambda asked: Answer(status=status, headers=headers)) as server:
        async with pulling(store, server) as pulls:
            with pytest.raises(error, match=words):
                await watch(pulls.pull(f"hf.co/{REPOSITORY}"))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"siblings":[{}]}'])
async def test_a_hub_that_makes_no_sense(store: Store, body: bytes) -> None:
    with serve(lambda asked: Answer(body=body)) as server:
        async with pulling(store, server) as pulls:
            with pytest.raises((RemoteDown, UnsupportedArtifact)):
                await watch(pulls.pull(f"hf.co/{REPOSITORY}"))


async def test_a_gate_behind_the_listing(store: Store) -> None:
    """Anyone may list a gated repository; its files need the terms accepted."""
    honest = hub()

    def play(asked: Asked) -> Answer:
        if "resolve" in asked.path and asked.headers.get("authorization") != "Bearer accepted":
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            return Answer(status=403, headers=headers)
        return honest(asked)

    with serve(play) as server:
        async with pulling(store, server) as pulls:
            with pytest.raises(Unauthorized, match="Access is restricted"):
                await watch(pulls.pull(f"hf.co/{REPOSITORY}"))
            await watch(pulls.pull(f"hf.co/{REPOSITORY}", token="accepted"))


async def test_the_token_stays_with_the_hub(store: Store) -> None:
    """Files are redirected to another host, which must not see the token."""
    with serve(hub()) as cdn:

        def play(asked: Asked) -> Answer:
            if asked.method == "GET" and "resolve" in asked.path:
                return Answer(status=302, headers={"Location": cdn.url + asked.path})
            return hub()(asked)

        with serve(play) as server:
            async with pulling(store, server) as pulls:
                await watch(pulls.pull(f"hf.co/{REPOSITORY}", token="secret"))
            assert all(a.headers.get("authorization") == "Bearer secret" for a in server.asked)
        assert cdn.asked
        assert all("authorization" not in asked.headers for asked in cdn.asked)


async def test_nobody_listens(store: Store) -> None:
    options = RemoteOptions(retry=HASTY, hub_endpoint="http://127.0.0.1:1")
    async with open_pulls(store, options) as pulls:
        with pytest.raises(RemoteDown, match="the Hub cannot be reached"):
            await watch(pulls.pull(f"hf.co/{REPOSITORY}"))


SCRIPT = """
import asyncio, sys
from pathlib import Path
from workers.models.remote.options import RemoteOptions
from workers.models.remote.pull import open_pulls
from workers.models.store.store import open_store

async def main():
    async with open_pulls(open_store(Path(sys.argv[1])), RemoteOptions()) as pulls:
        async for last in pulls.pull(sys.argv[2]):
            pass
    print(last.id)

asyncio.run(main())
"""


def test_the_hub_of_the_environment(store: Store, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_TOKEN are huggingface_hub's own, read when a process starts."""
    with serve(hub()) as server:
        environment = {
            **os.environ,
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": "from-the-environment",
            "HF_HOME": str(tmp_path / "hf"),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(store.root), f"hf.co/{REPOSITORY}:Q8_0"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        tokens = {
            asked.headers.get("authorization")
            for asked in server.asked
            if REPOSITORY in asked.path  # the library may ask the Hub other things of its own
        }
    assert tokens == {"Bearer from-the-environment"}
    assert store.get(f"hf.co/{REPOSITORY}:Q8_0").id == done.stdout.strip()
