"""Against Debian's docker-registry: what is pushed comes back, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.model_errors import ModelNotFound, UnsupportedArtifact
from tests.workers.models.store.conftest import OPTIONS, pulled, watch
from tests.workers.models.store.files import add_model
from workers.models.remote.options import RemoteOptions
from workers.models.remote.pull import Pulls
from workers.models.remote.push import Pushed, open_pushes
from workers.models.store.manifest import parse
from workers.models.store.store import Store

pytestmark = pytest.mark.registry
DEFAULT_MODEL = Path("~/.local/share/caravan/models/SmolLM2-135M-Instruct.Q4_1.gguf").expanduser()


async def push(store: Store, ref: str, options: RemoteOptions = OPTIONS) -> Pushed:
    """A push's result; its last progress of every blob is all of it."""
    async with open_pushes(store, options) as pushes:
        progress, last = await watch(pushes.push(ref))
    assert isinstance(last, Pushed)
    ends = {each.layer: (each.done, each.size) for each in progress}
    assert ends == {digest: (size, size) for digest, size in sizes(store, last.id).items()}
    return last


def sizes(store: Store, model_id: str) -> dict[str, int]:
    """Size of every blob of a model."""
    blobs = parse(store.manifest_raw(model_id)).blobs.values()
    return {blob.digest: blob.size for blob in blobs}


@pytest.mark.parametrize("chunk_bytes", [64 << 20, 300_000])
async def test_push_delete_pull(
    registry: str, store: Store, pulls: Pulls, tmp_path: Path, chunk_bytes: int
) -> None:
    ref = f"{registry}/org/model:v{chunk_bytes}"
    model = add_model(store, tmp_path, ref, size=2_500_000, seed=str(chunk_bytes))
    options = RemoteOptions(retry=OPTIONS.retry, push_chunk_bytes=chunk_bytes)
    assert await push(store, ref, options) == Pushed(id=model.id, ref=ref)
    expected = sizes(store, model.id)
    store.delete(ref)
    assert store.all() == []

    progress, last = await watch(pulls.pull(ref))
    assert (last.id, last.ref) == (model.id, ref)
    assert store.bundle(ref).model.read_bytes() == (tmp_path / f"{chunk_bytes}.gguf").read_bytes()
    assert {each.layer: each.done for each in progress} == expected
    assert all(each.total in (sum(expected.values()), each.size) for each in progress)


async def test_second_pull_is_cached(
    registry: str, store: Store, pulls: Pulls, tmp_path: Path
) -> None:
    ref = f"{registry}/org/cached:v1"
    add_model(store, tmp_path, ref)
    await push(store, ref)
    store.delete(ref)
    assert not (await pulled(pulls.pull(ref))).cached
    progress, last = await watch(pulls.pull(ref))
    assert (progress, last.cached, last.size) == ([], True, "4.19KiB")  # type: ignore[union-attr]


async def test_pull_by_digest_stays_untagged(
    registry: str, store: Store, pulls: Pulls, tmp_path: Path
) -> None:
    ref = f"{registry}/org/digest:v1"
    model = add_model(store, tmp_path, ref)
    await push(store, ref)
    store.delete(ref)
    name = f"{registry}/org/digest@{model.id}"
    assert (await pulled(pulls.pull(name))).id == model.id
    assert store.get(name).tags == ()


async def test_existing_blobs_are_not_sent_again(
    registry: str, store: Store, tmp_path: Path
) -> None:
    ref = f"{registry}/org/again:v1"
    add_model(store, tmp_path, ref)
    first = await push(store, ref)
    assert await push(store, ref) == first


async def test_what_is_not_there_is_not_found(registry: str, pulls: Pulls) -> None:
    with pytest.raises(ModelNotFound, match="MANIFEST_UNKNOWN"):
        await watch(pulls.pull(f"{registry}/org/nothing:v1"))


async def test_other_artifacts_are_refused_by_name(
    registry: str, store: Store, other: Store, pulls: Pulls, tmp_path: Path
) -> None:
    """An image's manifest, put there by hand over a model's blobs."""
    import httpx
    import msgspec

    ref = f"{registry}/org/image:v1"
    model = add_model(other, tmp_path, ref)
    await push(other, ref)
    manifest = msgspec.json.decode(other.manifest_raw(model.id))
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    async with httpx.AsyncClient() as client:
        answer = await client.put(
            f"http://{registry}/v2/org/image/manifests/v2",
            content=msgspec.json.encode(manifest),
            headers={"Content-Type": manifest["mediaType"]},
        )
    assert answer.status_code == 201
    with pytest.raises(UnsupportedArtifact, match=r"vnd\.oci\.image\.config.*supported:"):
        await watch(pulls.pull(f"{registry}/org/image:v2"))
    assert store.all() == []


async def test_the_default_model(registry: str, store: Store, pulls: Pulls, tmp_path: Path) -> None:
    if not DEFAULT_MODEL.exists():
        pytest.skip("the default model is not installed")
    from workers.models import gguf
    from workers.models.store.package import package

    ref = f"{registry}/ai/smollm2:latest"
    model = package(store, [DEFAULT_MODEL], ref)
    facts = gguf.read(DEFAULT_MODEL)
    assert (model.config.architecture, model.config.parameters) == ("llama", "134.52M")
    assert (model.config.quantization, model.config.size) == (facts.quantization, "93.81MiB")
    await push(store, ref)
    store.purge()
    assert (await pulled(pulls.pull(ref, ref="ai/smollm2"))).ref == "ai/smollm2:latest"
    assert gguf.read(store.bundle("smollm2").model).chat_template == facts.chat_template
