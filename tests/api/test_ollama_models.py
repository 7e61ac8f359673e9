"""Ollama's own client brings, makes, copies, shows and deletes models: real store and registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import ollama
import pytest
from arq.connections import ArqRedis

from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.storehouse import Storehouse, hasty, storehouse
from tests.registry import run_registry
from tests.workers.models.store.files import gguf_bytes

pytestmark = [pytest.mark.redis, pytest.mark.clients]
TEMPLATE = (
    "{% for message in messages %}{{ message.content }}{% if tools %}T{% endif %}{% endfor %}"
)


@pytest.fixture
async def house(real_redis: ArqRedis, settings: Settings) -> AsyncIterator[Storehouse]:
    async with storehouse(real_redis, hasty(settings)) as house:
        yield house


@pytest.fixture
async def sdk(house: Storehouse) -> AsyncIterator[ollama.AsyncClient]:
    async with serve(house.app) as url:
        sdk = ollama.AsyncClient(url)
        yield sdk
        await sdk._client.aclose()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.mark.registry
async def test_push_delete_pull(
    house: Storehouse, sdk: ollama.AsyncClient, registry: str, tmp_path: Path
) -> None:
    model = await house.add(tmp_path, "m", size=3_000_000)
    name = f"{registry}/org/ollama:v1"
    await sdk.copy("m", name)
    assert (await sdk.push(name)).status == "success"
    assert [one.model for one in (await sdk.list()).models] == ["m:latest", name]
    await sdk.delete("m")
    await sdk.delete(name)
    assert (await sdk.list()).models == []

    told = [line async for line in await sdk.pull(name, stream=True)]
    assert told[0].status == "pulling manifest"
    assert told[-1].status == "success"
    weights = max((line for line in told if line.digest), key=lambda line: line.total or 0)
    assert weights.status == f"pulling {(weights.digest or '')[7:19]}"
    (back,) = (await sdk.list()).models
    assert f"sha256:{back.digest}" == model.id
    assert (await sdk.pull(name)).status == "success"  # cached


async def test_create_from_a_model(
    house: Storehouse, sdk: ollama.AsyncClient, tmp_path: Path
) -> None:
    await house.add(tmp_path, "m")
    made = await sdk.create(
        "mine", from_="m", template=TEMPLATE, license="Mine", parameters={"num_ctx": 1024}
    )
    assert made.status == "success"
    shown = await sdk.show("mine")
    assert (shown.template, shown.license, shown.parameters) == (TEMPLATE, "Mine", "num_ctx 1024")
    assert shown.capabilities == ["completion", "tools"]
    assert (shown.modelinfo or {})["llama.context_length"] == 4096
    assert [one.model for one in (await sdk.list()).models] == ["m:latest", "mine:latest"]
    assert len(house.store.all()) == 2


async def test_create_from_an_upload(
    house: Storehouse, sdk: ollama.AsyncClient, tmp_path: Path
) -> None:
    path = tmp_path / "up.gguf"
    path.write_bytes(gguf_bytes(size=5_000_000, seed="up"))
    digest = await sdk.create_blob(path)
    made = [
        line.status async for line in await sdk.create("up", files={"up.gguf": digest}, stream=True)
    ]
    assert made == ["reading model", "writing manifest", "success"]
    assert house.store.bundle("up").model.read_bytes() == path.read_bytes()
    assert (await sdk.show("up")).details.family == "llama"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"system": "be nice"}, "system"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "messages"),
        ({"quantize": "q4_K_M"}, "quantize"),
        ({"parameters": {"temperature": 0.1}}, "parameters.temperature"),
        ({"template": "{{ .Prompt }}"}, "unexpected"),
    ],
)
async def test_what_a_model_cannot_carry_is_refused(
    house: Storehouse, sdk: ollama.AsyncClient, tmp_path: Path, more: dict[str, object], says: str
) -> None:
    await house.add(tmp_path, "m")
    with pytest.raises(ollama.ResponseError, match=says) as caught:
        await sdk.create("mine", from_="m", **more)  # type: ignore[call-overload]
    assert caught.value.status_code == 400
    assert len(house.store.all()) == 1


@pytest.mark.parametrize("what", ["copy", "delete", "push", "show"])
async def test_what_is_not_there_is_404(sdk: ollama.AsyncClient, what: str) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        await (sdk.copy("none", "b") if what == "copy" else getattr(sdk, what)("none"))
    assert caught.value.status_code == 404


@pytest.mark.registry
async def test_a_failed_pull_is_its_status(sdk: ollama.AsyncClient, registry: str) -> None:
    async def watched() -> None:
        async for _ in await sdk.pull(f"{registry}/org/none", stream=True):
            pass

    for pulling in (watched(), sdk.pull(f"{registry}/org/none")):
        with pytest.raises(ollama.ResponseError, match="MANIFEST_UNKNOWN") as caught:
            await pulling
        assert caught.value.status_code == 404


async def test_wrong_bytes_are_not_kept(house: Storehouse, sdk: ollama.AsyncClient) -> None:
    digest = "sha256:" + "0" * 64
    answer = await house.client.post(f"/api/blobs/{digest}", content=b"other")
    assert answer.status_code == 400
    assert (await house.client.head(f"/api/blobs/{digest}")).status_code == 404
    assert not list(house.store.blobs.folder.glob("*"))
