"""Pushes to registries that have some of it, forget, break off, or say no."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import CaravanError
from shared.model_errors import (
    BadDigest,
    BadReference,
    ModelNotFound,
    RemoteDown,
    StoreDamaged,
    Unauthorized,
)
from tests.workers.models.store.conftest import HASTY, OPTIONS, watch
from tests.workers.models.store.files import add_model
from tests.workers.models.store.loopback import Answer, Asked, Loopback, serve
from workers.models.remote.options import RemoteOptions
from workers.models.remote.push import Pushed, open_pushes
from workers.models.store import digests
from workers.models.store.manifest import parse
from workers.models.store.store import Store, StoredModel

CHUNKED = RemoteOptions(retry=HASTY, push_chunk_bytes=100_000)


@pytest.fixture
def model(store: Store, tmp_path: Path) -> StoredModel:
    """What to push."""
    return add_model(store, tmp_path, "m", size=450_000)


class Registry:
    """A small registry: uploads by one PUT or by PATCHes, manifests, HEAD."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}

    def play(self, asked: Asked) -> Answer:
        kind, _, last = asked.path.rpartition("/")
        if kind.endswith("/uploads"):
            return self.upload(asked, last)
        if kind.endswith("/manifests") and asked.method == "PUT":
            self.manifests[last] = asked.body
            return Answer(status=201, headers={"Docker-Content-Digest": digests.of(asked.body)})
        if kind.endswith("/blobs") and last in self.blobs:
            return Answer(body=self.blobs[last])
        return Answer(status=404)

    def upload(self, asked: Asked, name: str) -> Answer:
        if asked.method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
        elif name not in self.uploads:
            return Answer(status=404)
        elif asked.method == "PATCH":
            if int(asked.headers["content-range"].partition("-")[0]) != len(self.uploads[name]):
                return Answer(status=416)
            self.uploads[name] += asked.body
        elif asked.method == "PUT":
            return self.finish(asked, self.uploads[name] + asked.body)
        status = {"POST": 202, "PATCH": 202, "GET": 204}[asked.method]
        return Answer(status=status, headers=self.place(name))

    def finish(self, asked: Asked, raw: bytes) -> Answer:
        if f"digest={digests.of(raw)}" != asked.query.replace("%3A", ":"):
            return Answer(status=400)
        self.blobs[digests.of(raw)] = raw
        return Answer(status=201)

    def place(self, name: str) -> dict[str, str]:
        last = max(0, len(self.uploads[name]) - 1)
        return {"Location": f"/v2/org/m/blobs/uploads/{name}", "Range": f"0-{last}"}


async def push(
    store: Store, server: Loopback, options: RemoteOptions = OPTIONS, *, token: str = ""
) -> Pushed:
    """Push `m` to the server."""
    store.tag("m", f"{server.host}/org/m:v1")
    async with open_pushes(store, options) as pushes:
        _, last = await watch(pushes.push(f"{server.host}/org/m:v1", token=token))
    assert isinstance(last, Pushed)
    return last


@pytest.mark.parametrize("options", [OPTIONS, CHUNKED])
async def test_everything_arrives(store: Store, model: StoredModel, options: RemoteOptions) -> None:
    registry = Registry()
    with serve(registry.play) as server:
        assert (await push(store, server, options)).id == model.id
        assert server.count("PATCH") == (5 if options is CHUNKED else 0)
    raw = store.manifest_raw(model.id)
    assert registry.manifests == {"v1": raw}
    assert registry.blobs.keys() == parse(raw).blobs.keys()


async def test_blobs_that_are_there_are_not_sent(store: Store, model: StoredModel) -> None:
    registry = Registry()
    with serve(registry.play) as server:
        await push(store, server)
        await push(store, server)
        assert server.count("POST") == 2


async def test_a_blob_of_another_size_there_is_an_error(store: Store, model: StoredModel) -> None:
    registry = Registry()
    registry.blobs = dict.fromkeys(parse(store.manifest_raw(model.id)).blobs, b"?")
    with serve(registry.play) as server, pytest.raises(BadDigest, match="has 1 bytes"):
        await push(store, server)
    assert registry.manifests == {}


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_chunk_that_fails_is_taken_up_where_it_was(
    store: Store, model: StoredModel, keeps: bool
) -> None:
    """Every second PATCH answers 500; its bytes are kept, or not."""
    registry = Registry()
    patches = 0

    def play(asked: Asked) -> Answer:
        nonlocal patches
        patches += asked.method == "PATCH"
        if asked.method == "PATCH" and patches % 2:
            if keeps:
                registry.play(asked)
            return Answer(status=500)
        return registry.play(asked)

    with serve(play) as server:
        assert (await push(store, server, CHUNKED)).id == model.id
        assert server.count("POST") == 2
        assert server.count("PATCH") == (5 if keeps else 10)


async def test_an_upload_that_is_forgotten_starts_over(store: Store, model: StoredModel) -> None:
    registry = Registry()
    forgotten = False

    def play(asked: Asked) -> Answer:
        nonlocal forgotten
        later = not asked.headers.get("content-range", "0-").startswith("0-")
        if later and not forgotten:
            forgotten = True
            registry.uploads.clear()
        return registry.play(asked)

    with serve(play) as server:
        assert (await push(store, server, CHUNKED)).id == model.id
    assert forgotten


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Unauthorized), (500, RemoteDown)]
)
@pytest.mark.parametrize("where", ["HEAD", "POST", "PUT"])
async def test_a_registry_that_says_no(
    store: Store, model: StoredModel, status: int, error: type[CaravanError], where: str
) -> None:
    registry = Registry()

    def play(asked: Asked) -> Answer:
        return Answer(status=status) if asked.method == where else registry.play(asked)

    with serve(play) as server, pytest.raises(error):
        await push(store, server)
    assert registry.manifests == {}


async def test_push_asks_for_its_own_token(store: Store, model: StoredModel) -> None:
    """A token to pull is not one to push: the scope is the challenge's."""
    registry = Registry()

    def play(asked: Asked) -> Answer:
        if asked.path == "/token":
            scope = "push" if "push" in asked.query else "pull"
            return Answer(body=b'{"access_token":"%s"}' % scope.encode())
        need = "pull" if asked.method == "HEAD" else "push"
        if need not in asked.headers.get("authorization", ""):
            scope = "pull" if need == "pull" else "pull,push"
            challenge = f'Bearer realm="http://{host}/token",scope="repository:org/m:{scope}"'
            return Answer(status=401, headers={"WWW-Authenticate": challenge})
        return registry.play(asked)

    with serve(play) as server:
        host = server.host
        assert (await push(store, server)).id == model.id


async def test_a_registry_that_stores_another_manifest(store: Store, model: StoredModel) -> None:
    registry = Registry()

    def play(asked: Asked) -> Answer:
        answer = registry.play(asked)
        if "/manifests/" in asked.path:
            return Answer(status=201, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})
        return answer

    with serve(play) as server, pytest.raises(BadDigest, match="stored the manifest as"):
        await push(store, server)


async def test_a_harmed_blob_is_not_pushed(store: Store, model: StoredModel) -> None:
    store.blobs.path(parse(store.manifest_raw(model.id)).layers[0].digest).unlink()
    registry = Registry()
    with serve(registry.play) as server, pytest.raises(StoreDamaged):
        await push(store, server)
    assert registry.manifests == {}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nothing", ModelNotFound),
        ("", BadReference),
        ("../x", BadReference),
        ("sha256:" + "0" * 64, BadReference),
        ("hf.co/org/repo", BadReference),
        ("m@sha256:" + "0" * 64, BadReference),
    ],
)
async def test_names_that_cannot_be_pushed(
    store: Store, model: StoredModel, name: str, error: type[CaravanError]
) -> None:
    async with open_pushes(store, OPTIONS) as pushes:
        with pytest.raises(error):
            pushes.push(name)
