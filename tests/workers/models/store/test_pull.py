"""Pulls from registries that misbehave: the right error, nothing half stored, resumed if able."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from shared.errors import CaravanError
from shared.model_errors import (
    BadDigest,
    BadReference,
    ModelNotFound,
    NoSpace,
    RemoteDown,
    Unauthorized,
    UnsupportedArtifact,
)
from tests.workers.models.store.conftest import pulled, watch
from tests.workers.models.store.files import add_model, gguf_bytes, whole_blobs
from tests.workers.models.store.loopback import Answer, Asked, Play, registry_of, serve
from workers.models.remote.progress import Progress
from workers.models.remote.pull import Pulls
from workers.models.store import digests
from workers.models.store.blobs import INCOMPLETE
from workers.models.store.manifest import OCI_INDEX, parse
from workers.models.store.store import Store, StoredModel

SIZE = 400_000
MIB = 1 << 20


@pytest.fixture
def model(other: Store, tmp_path: Path) -> StoredModel:
    """What the remote has."""
    return add_model(other, tmp_path, "m", size=SIZE)


@pytest.fixture
def honest(other: Store, model: StoredModel) -> Play:
    """A registry that has it."""
    return registry_of(other, model.id)


@pytest.fixture
def weights(other: Store, model: StoredModel) -> str:
    """Digest of the weights."""
    return parse(other.manifest_raw(model.id)).layers[0].digest


async def test_an_honest_registry(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    with serve(honest) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
        assert server.count("GET") == 3
    assert store.get(f"{server.host}/org/m").config == model.config


@pytest.mark.parametrize(
    ("status", "error", "asked"),
    [
        (401, Unauthorized, 1),
        (403, Unauthorized, 1),
        (404, ModelNotFound, 1),
        (400, BadReference, 1),
        (429, RemoteDown, 3),
        (500, RemoteDown, 3),
        (503, RemoteDown, 3),
    ],
)
@pytest.mark.parametrize("where", ["/manifests/", "/blobs/"])
async def test_statuses(
    store: Store,
    pulls: Pulls,
    honest: Play,
    status: int,
    error: type[CaravanError],
    asked: int,
    where: str,
) -> None:
    def play(request: Asked) -> Answer:
        body = b'{"errors":[{"code":"SOME_CODE","message":"a reason"}]}'
        return Answer(status=status, body=body) if where in request.path else honest(request)

    with serve(play) as server:
        with pytest.raises(error, match="SOME_CODE - a reason"):
            await watch(pulls.pull(f"{server.host}/org/m"))
        assert server.count(where) == asked
    assert (store.all(), whole_blobs(store)) == ([], [])


async def test_trouble_that_passes_is_not_noticed(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    troubled: set[str] = set()

    def play(request: Asked) -> Answer:
        if request.path not in troubled:
            troubled.add(request.path)
            return Answer(status=503, headers={"Retry-After": "0"})
        return honest(request)

    with serve(play) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
    assert len(troubled) == 3


async def test_a_wish_for_time_is_part_of_the_error(pulls: Pulls) -> None:
    limited = Answer(status=429, headers={"Retry-After": "7"})
    with serve(lambda request: limited) as server, pytest.raises(RemoteDown) as down:
        await watch(pulls.pull(f"{server.host}/org/m"))
    assert (down.value.limited, down.value.retry_after_s) == (True, 7)


async def test_bodies_that_break_off_are_resumed(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    """Each answer is cut short after some bytes; every one counts as progress."""
    sent: list[tuple[int, int]] = []

    def play(request: Asked) -> Answer:
        answer = honest(request)
        if not request.path.endswith(weights):
            return answer
        cut = 30_000 + 7_001 * len(sent) % 20_000
        sent.append((request.offset, cut))
        return msgspec.structs.replace(answer, cut=cut)

    with serve(play) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
    offsets = [offset for offset, _ in sent]
    assert len(sent) > 8
    assert offsets == sorted(set(offsets))


async def test_a_body_that_ends_early_each_time_is_an_error(
    store: Store, pulls: Pulls, honest: Play, weights: str
) -> None:
    """Without progress the retries run out, and what came stays for next time."""

    def play(request: Asked) -> Answer:
        if not request.path.endswith(weights):
            return honest(request)
        answer = honest(request)
        return msgspec.structs.replace(answer, cut=max(0, 100_000 - request.offset))

    with serve(play) as server, pytest.raises(RemoteDown, match="try again"):
        await watch(pulls.pull(f"{server.host}/org/m"))
    assert store.blobs.partial_bytes(digests.hex_of(weights)) == 100_000
    assert store.all() == []


async def test_a_short_body_that_claims_to_be_whole(
    store: Store, pulls: Pulls, honest: Play, weights: str
) -> None:
    def play(request: Asked) -> Answer:
        answer = honest(request)
        if request.path.endswith(weights) and not request.offset:
            return Answer(body=answer.body[:1000])
        return Answer(status=416) if request.offset else answer

    with serve(play) as server, pytest.raises(RemoteDown):
        await watch(pulls.pull(f"{server.host}/org/m"))
    assert store.all() == []


async def test_wrong_bytes_are_thrown_away(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    lying = True

    def play(request: Asked) -> Answer:
        answer = honest(request)
        if request.path.endswith(weights) and lying:
            return msgspec.structs.replace(answer, body=answer.body[:-1] + b"!")
        return answer

    with serve(play) as server:
        with pytest.raises(BadDigest, match=weights):
            await watch(pulls.pull(f"{server.host}/org/m"))
        assert not store.blobs.has(weights)
        assert store.blobs.partial_bytes(digests.hex_of(weights)) == 0
        lying = False
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id


async def test_more_bytes_than_announced(
    store: Store, pulls: Pulls, honest: Play, weights: str
) -> None:
    def play(request: Asked) -> Answer:
        answer = honest(request)
        more = answer.body + bytes(500_000) if request.path.endswith(weights) else answer.body
        return msgspec.structs.replace(answer, body=more)

    with serve(play) as server, pytest.raises(BadDigest, match="more bytes"):
        await watch(pulls.pull(f"{server.host}/org/m"))
    assert not list(store.blobs.folder.glob("*" + INCOMPLETE))


@pytest.mark.parametrize("ranges", ["honoured", "ignored", "wrong", "refused"])
async def test_a_partial_is_gone_on_with_or_replaced(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str, ranges: str
) -> None:
    whole = gguf_bytes(SIZE)
    partial = store.blobs.open_partial(digests.hex_of(weights))
    partial.append(whole[:150_000])
    partial.close()
    offsets: list[int] = []

    def play(request: Asked) -> Answer:
        if not request.path.endswith(weights):
            return honest(request)
        offsets.append(request.offset)
        if request.offset and ranges != "honoured":
            return {
                "ignored": Answer(body=whole),
                "wrong": Answer(
                    status=206, body=whole[7:], headers={"Content-Range": "bytes 7-9/10"}
                ),
                "refused": Answer(status=416),
            }[ranges]
        return honest(request)

    with serve(play) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
    expected = {"honoured": [150_000], "ignored": [150_000]}
    assert offsets == expected.get(ranges, [150_000, 0])


@pytest.mark.parametrize("size", [150_000, SIZE + 99_999])
async def test_a_partial_of_other_bytes_is_replaced(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str, size: int
) -> None:
    """As a power cut may leave it: the right length, the wrong bytes."""
    partial = store.blobs.open_partial(digests.hex_of(weights))
    partial.append(bytes(size))
    partial.close()
    with serve(honest) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id


async def test_a_whole_partial_needs_no_bytes(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    """The crash came between the last byte and the name."""
    partial = store.blobs.open_partial(digests.hex_of(weights))
    partial.append(gguf_bytes(SIZE))
    partial.close()
    with serve(honest) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
        assert server.count(weights) == 0


async def test_space_is_checked_before_the_first_byte(
    store: Store, pulls: Pulls, other: Store, model: StoredModel
) -> None:
    raw = msgspec.json.decode(other.manifest_raw(model.id))
    raw["layers"][0]["size"] = 1 << 49
    config = other.blobs.path(raw["config"]["digest"]).read_bytes()

    def play(request: Asked) -> Answer:
        return Answer(body=msgspec.json.encode(raw) if "/manifests/" in request.path else config)

    with serve(play) as server:
        with pytest.raises(NoSpace, match="MiB"):
            await watch(pulls.pull(f"{server.host}/org/m"))
        assert server.count(raw["layers"][0]["digest"]) == 0


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>", b"{}", b"[" * 200_000, b'{"a":' * 200_000, b"x" * (5 << 20)],
    ids=["empty", "html", "object", "deep list", "deep object", "huge"],
)
async def test_manifests_that_are_none(store: Store, pulls: Pulls, raw: bytes) -> None:
    with serve(lambda request: Answer(body=raw)) as server, pytest.raises(UnsupportedArtifact):
        await watch(pulls.pull(f"{server.host}/org/m"))
    assert store.all() == []


async def test_a_manifest_of_another_digest(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    with serve(honest) as server:
        with pytest.raises(BadDigest):
            await watch(pulls.pull(f"{server.host}/org/m@sha256:{'0' * 64}"))
        assert (await pulled(pulls.pull(f"{server.host}/org/m@{model.id}"))).id == model.id


async def test_an_index_leads_to_its_first_manifest(
    store: Store, pulls: Pulls, other: Store, model: StoredModel, honest: Play
) -> None:
    raw = other.manifest_raw(model.id)
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": model.id,
        "size": len(raw),
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}

    def play(request: Asked) -> Answer:
        if request.path.endswith("/manifests/latest"):
            return Answer(body=msgspec.json.encode(index))
        return honest(request)

    with serve(play) as server:
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id


async def test_a_look_stores_nothing(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    with serve(honest) as server:
        found = await pulls.look(f"{server.host}/org/m")
        with pytest.raises(BadReference):
            await pulls.look("")
    assert (found.id, found.config, found.tags) == (model.id, model.config, ())
    assert found.size_bytes == model.size_bytes
    assert (store.all(), whole_blobs(store)) == ([], [])


async def test_a_look_checks_the_config(pulls: Pulls, honest: Play) -> None:
    def play(request: Asked) -> Answer:
        answer = honest(request)
        return Answer(body=answer.body[:-1] + b"!") if "/blobs/" in request.path else answer

    with serve(play) as server, pytest.raises(BadDigest):
        await pulls.look(f"{server.host}/org/m")


async def test_nobody_listens(pulls: Pulls) -> None:
    with pytest.raises(RemoteDown, match=r"127\.0\.0\.1:1 cannot be reached"):
        await watch(pulls.pull("127.0.0.1:1/org/m"))


def test_bad_names_are_refused_at_the_call(pulls: Pulls) -> None:
    for name in ("", "../x", "sha256:" + "0" * 64):
        with pytest.raises(BadReference):
            pulls.pull(name)


async def test_two_callers_share_one_pull(
    pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    with serve(honest) as server:
        name = f"{server.host}/org/m"
        results = await asyncio.gather(*(pulled(pulls.pull(name)) for _ in range(5)))
        assert {result.id for result in results} == {model.id}
        assert (server.count("/manifests/"), server.count(weights)) == (1, 1)


async def test_leaving_keeps_what_came(
    store: Store, pulls: Pulls, other: Store, tmp_path: Path
) -> None:
    """The last caller goes away in mid-blob; the next one resumes."""
    model = add_model(other, tmp_path, "large", seed="large", size=4 * MIB)
    honest = registry_of(other, model.id)
    large = parse(other.manifest_raw(model.id)).layers[0].digest

    def play(request: Asked) -> Answer:
        held = request.path.endswith(large) and not request.offset
        return msgspec.structs.replace(honest(request), hold=2 * MIB if held else None)

    with serve(play) as server:
        async with aclosing(pulls.pull(f"{server.host}/org/m")) as leaving:
            async for progress in leaving:
                if isinstance(progress, Progress) and progress.done >= MIB:
                    break
        assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id
        offsets = [asked.offset for asked in server.asked if asked.path.endswith(large)]
    assert len(offsets) == 2
    assert MIB <= offsets[1] <= 2 * MIB


async def test_a_deleted_blob_is_fetched_again_before_the_commit(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    """Two models share weights; one is deleted while the other is being pulled."""
    with serve(honest) as server:
        name = f"{server.host}/org/m"
        await watch(pulls.pull(name))
        os.truncate(store.blobs.path(weights), 10)
        assert (await pulled(pulls.pull(name))).id == model.id
        assert server.count(weights) == 2
    assert store.bundle(name).model.read_bytes() == gguf_bytes(SIZE)
