"""Docker Model Runner's own cases about models (rows C1 to C25), over HTTP into a real store."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from arq.connections import ArqRedis

from shared import refs
from shared.settings import Settings
from tests.api.storehouse import Storehouse, hasty, lines, storehouse
from tests.registry import run_registry
from tests.workers.models.store.files import gguf_bytes, modelpack_tar

pytestmark = [pytest.mark.redis]
FORMS = ("m", "m:latest", "ai/m", "ai/m:latest", "docker.io/ai/m", "index.docker.io/ai/m:latest")


@pytest.fixture
async def house(real_redis: ArqRedis, settings: Settings) -> AsyncIterator[Storehouse]:
    async with storehouse(real_redis, hasty(settings)) as house:
        yield house


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
async def pushed(house: Storehouse, registry: str, tmp_path: Path) -> str:
    """A model that is at the registry only; its name there."""
    name = f"{registry}/org/m-{tmp_path.name.replace('_', '-')}:v1".lower()
    await house.add(tmp_path, name)
    answer = await house.client.post(f"/models/{name}/push")
    assert lines(answer)[-1]["type"] == "success", answer.text
    assert (await house.client.delete(f"/models/{name}")).status_code == 200
    assert (await house.client.get("/models")).json() == []
    return name


@pytest.mark.registry
@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain"),
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
        ("application/json", "application/json"),
    ],
)
async def test_c1_the_media_type_is_what_was_accepted(
    house: Storehouse, pushed: str, accept: str | None, kind: str
) -> None:
    answer = await house.create(pushed, **({"accept": accept} if accept else {}))
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == kind
    assert ("&#34;" in answer.text) == (kind == "text/plain")


@pytest.mark.registry
async def test_c2_c3_c4_progress_then_success_then_cached(house: Storehouse, pushed: str) -> None:
    told = lines(await house.create(pushed))
    assert told[-1] == {
        "type": "success",
        "message": "Model pulled successfully",
        "mode": "pull",
    }
    progress = told[:-1]
    assert progress
    assert {line["type"] for line in progress} == {"progress"}
    assert {line["mode"] for line in progress} == {"pull"}
    last = {line["layer"]["id"]: line["layer"] for line in progress}
    assert all(layer["current"] == layer["size"] for layer in last.values())
    assert sum(layer["size"] for layer in last.values()) == progress[-1]["total"]
    (again,) = lines(await house.create(pushed))
    assert again["message"] == "Using cached model: 4.19KiB"


@pytest.mark.registry
async def test_c5_every_name_pulls_the_same_model(
    real_redis: ArqRedis, settings: Settings, registry: str, tmp_path: Path
) -> None:
    """A mirror stands for Docker Hub; what has no organisation is `ai`'s, whoever else has one."""
    mirrored = msgspec.structs.replace(hasty(settings), registry_mirrors=f"http://{registry}")
    async with storehouse(real_redis, mirrored) as house:
        ids = {}
        for at, owner in enumerate(("ai", "test")):
            name = f"{registry}/{owner}/m:latest"
            ids[owner] = (await house.add(tmp_path, name, seed=str(at))).id
            assert lines(await house.client.post(f"/models/{name}/push"))[-1]["type"] == "success"
            await house.client.delete(f"/models/{name}")
        digest = ids["ai"]
        forms = (*FORMS, f"m@{digest}", f"ai/m@{digest}", f"docker.io/ai/m@{digest}")
        for form in (*forms, f"{registry}/ai/m", f"{registry}/ai/m@{digest}"):
            assert lines(await house.create(form))[-1]["type"] == "success", form
            (model,) = (await house.client.get("/models")).json()
            assert model["id"] == digest, form
            assert (await house.client.delete(f"/models/{digest}")).status_code == 200
        assert lines(await house.create("test/m"))[-1]["type"] == "success"
        assert (await house.client.get("/models/test/m")).json()["id"] == ids["test"]


async def test_c6_every_form_of_a_name_is_the_model(house: Storehouse, tmp_path: Path) -> None:
    model = await house.add(tmp_path, "m")
    digits = model.id.removeprefix("sha256:")
    forms = (*FORMS, "m" + f"@{model.id}", model.id, digits, digits[:12])
    for form in forms:
        answer = await house.client.get(f"/models/{form}")
        assert (answer.status_code, answer.json()["id"]) == (200, model.id), form
        assert answer.json()["tags"] == ["ai/m:latest"]


async def test_c7_no_such_model(house: Storehouse) -> None:
    answer = await house.client.get("/models/nonexistent:v1")
    assert answer.status_code == 404
    assert "model not found" in answer.json()["error"]["message"]


@pytest.mark.registry
async def test_c8_what_a_registry_has(house: Storehouse, pushed: str, registry: str) -> None:
    found = await house.client.get(f"/models/{pushed}", params={"remote": "true"})
    assert found.status_code == 200
    assert found.json()["config"]["architecture"] == "llama"
    assert "tags" not in found.json()
    missing = await house.client.get(f"/models/{registry}/org/none:v1?remote")
    assert missing.status_code == 404
    assert "failed to pull model" in missing.json()["error"]["message"]


async def test_c9_c10_lists(house: Storehouse, tmp_path: Path) -> None:
    model = await house.add(tmp_path, "m")
    (native,) = (await house.client.get("/models")).json()
    assert native["id"] == model.id
    assert native["created"] == 1_700_000_000
    assert native["config"]["gguf"]["general.architecture"] == "llama"
    assert native["config"]["quantization"]
    (listed,) = (await house.client.get("/engines/v1/models")).json()["data"]
    assert listed["id"] == "ai/m:latest"
    await house.client.delete("/models/m")
    assert (await house.client.get("/engines/v1/models")).json()["data"] == []


async def test_c11_modelpack_has_dockers_config(house: Storehouse) -> None:
    tar = modelpack_tar(gguf_bytes())
    loaded = await house.client.post("/models/load", content=tar)
    assert loaded.status_code == 200
    (native,) = (await house.client.get("/models")).json()
    assert native["id"] == loaded.headers["x-caravan-model"]
    config = native["config"]
    assert (config["format"], config["parameters"], config["size"]) == ("gguf", "1k", "1k")
    (listed,) = (await house.client.get("/engines/v1/models")).json()["data"]
    assert (listed["id"], listed["dmr"]["architecture"]) == (native["id"], "llama")


TARGETS = (
    *("t", "t:v2", "org/t", "org/t:v2", "ai/t:v3", "docker.io/ai/t:v4", "docker.io/org/t:v5"),
    *("registry.example.com/a/t", "localhost:5000/t:v6"),
)


async def test_c12_tags(house: Storehouse, tmp_path: Path) -> None:
    """Nine targets from twelve forms of the source."""
    model = await house.add(tmp_path, "m")
    digits = model.id.removeprefix("sha256:")
    by_id = (model.id, digits, digits[:12], f"m@{model.id}", f"ai/m@{model.id}")
    for source in (*FORMS, *by_id, f"docker.io/ai/m@{model.id}"):
        for target in TARGETS:
            path, tag = refs.split_tag(target)
            query = {"repo": path, "tag": tag.removeprefix(":")}
            answer = await house.client.post(f"/models/{source}/tag", params=query)
            assert answer.status_code == 201, (source, target, answer.text)
            assert answer.json()["target"] == path + tag
        for name in (source, *TARGETS):
            assert (await house.client.get(f"/models/{name}")).json()["id"] == model.id, name
        tags = (await house.client.get("/models/m")).json()["tags"]
        assert len(tags) == 1 + len(TARGETS)
        for target in TARGETS:
            assert (await house.client.delete(f"/models/{target}")).status_code == 200


async def test_c13_tag_wants_a_model_and_both_halves(house: Storehouse, tmp_path: Path) -> None:
    query = {"repo": "t", "tag": "v"}
    assert (await house.client.post("/models/no/tag", params=query)).status_code == 404
    await house.add(tmp_path, "m")
    for broken in ({"repo": "t"}, {"tag": "v"}, {"repo": "", "tag": ""}):
        answer = await house.client.post("/models/m/tag", params=broken)
        assert answer.status_code == 400
        assert "missing repo or tag" in answer.json()["error"]["message"]
    bad = await house.client.post("/models/m/tag", params={"repo": "T T", "tag": "v"})
    assert bad.status_code == 400


@pytest.mark.registry
async def test_c14_push(house: Storehouse, registry: str, tmp_path: Path) -> None:
    await house.add(tmp_path, "m")
    answer = await house.client.post(
        "/models/m/tag", params={"repo": f"{registry}/org/c14", "tag": "v"}
    )
    assert answer.status_code == 201
    told = lines(await house.client.post(f"/models/{registry}/org/c14:v/push", json={}))
    assert told[-1]["message"] == "Model pushed successfully"
    assert {line["mode"] for line in told} == {"push"}
    missing = await house.client.post("/models/org/none:v/push")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    for name in ("A B", "%20"):
        assert (await house.client.post(f"/models/{name}/push")).status_code in (400, 404)


@pytest.mark.parametrize("force", ["", "?force", "?force=true"])
@pytest.mark.parametrize("by_id", [True, False])
async def test_c15_one_tag(house: Storehouse, tmp_path: Path, force: str, by_id: bool) -> None:
    model = await house.add(tmp_path, "m")
    bundle = house.store.bundle("m").model.parent
    answer = await house.client.delete(f"/models/{model.id if by_id else 'm'}{force}")
    assert answer.json() == [{"Untagged": "ai/m:latest"}, {"Deleted": model.id}]
    assert not bundle.exists()
    assert (await house.client.get("/models/m")).status_code == 404


async def two_tags(house: Storehouse, folder: Path) -> str:
    model = await house.add(folder, "m")
    await house.client.post("/models/m/tag", params={"repo": "other", "tag": "v1"})
    return model.id


async def test_c16_c17_two_tags_by_id(house: Storehouse, tmp_path: Path) -> None:
    model_id = await two_tags(house, tmp_path)
    refused = await house.client.delete(f"/models/{model_id}")
    assert refused.status_code == 409
    message = refused.json()["error"]["message"]
    assert "(must be forced) due to multiple tag references: resource conflict" in message
    assert len((await house.client.get(f"/models/{model_id}")).json()["tags"]) == 2
    assert (await house.client.delete(f"/models/{model_id}?force=1")).status_code == 200
    assert (await house.client.get("/models")).json() == []


@pytest.mark.parametrize("force", ["", "?force"])
async def test_c18_two_tags_by_tag(house: Storehouse, tmp_path: Path, force: str) -> None:
    model_id = await two_tags(house, tmp_path)
    answer = await house.client.delete(f"/models/m{force}")
    assert answer.json() == [{"Untagged": "ai/m:latest"}]
    (left,) = (await house.client.get("/models")).json()
    assert (left["id"], left["tags"]) == (model_id, ["ai/other:v1"])


@pytest.mark.parametrize("name", ["none", "none?force", "%20", "A B", "sha256:" + "0" * 64])
async def test_c19_nothing_to_delete(house: Storehouse, name: str) -> None:
    answer = await house.client.delete(f"/models/{name}")
    assert answer.status_code == 404
    assert "error while deleting model" in answer.json()["error"]["message"]


async def test_c20_several(house: Storehouse, tmp_path: Path) -> None:
    for at, form in enumerate(FORMS):
        await house.add(tmp_path, "m", seed=str(at))
        assert (await house.client.delete(f"/models/{form}")).status_code == 200
        assert (await house.client.get("/models")).json() == []


async def test_c21_export_and_load(house: Storehouse, tmp_path: Path) -> None:
    model = await house.add(tmp_path, "m", size=3_000_000)
    made = await house.client.post(
        "/models/m/repackage", json={"target": "small:ctx", "context_size": 512}
    )
    assert made.status_code == 201
    small = (await house.client.get("/models/small:ctx")).json()
    assert small["config"]["context_size"] == 512
    tar = await house.client.get("/models/small:ctx/export")
    assert (tar.status_code, tar.headers["content-type"]) == (200, "application/x-tar")
    assert "ai-small-ctx.tar" in tar.headers["content-disposition"]
    assert (await house.client.delete("/models/purge")).status_code == 200
    loaded = await house.client.post("/models/load", content=tar.content)
    assert (loaded.status_code, lines(loaded)[0]["message"]) == (200, "Model loaded successfully")
    assert loaded.headers["x-caravan-model"] == small["id"] != model.id
    (back,) = (await house.client.get("/models")).json()
    assert (back["id"], back.get("tags"), back["config"]["context_size"]) == (
        small["id"],
        None,
        512,
    )
    assert (await house.client.get("/engines/v1/models")).json()["data"][0]["id"] == small["id"]


async def test_c22_bad_tars(house: Storehouse, tmp_path: Path) -> None:
    await house.add(tmp_path, "m", size=3_000_000)
    tar = (await house.client.get("/models/m/export")).content
    await house.client.delete("/models/purge")
    outside = io.BytesIO()
    with tarfile.open(fileobj=outside, mode="w") as file:
        file.addfile(tarfile.TarInfo("../outside"))
    for broken in (tar[: len(tar) // 2], outside.getvalue(), b"no tar", b""):
        answer = await house.client.post("/models/load", content=broken)
        assert answer.status_code == 400, answer.text
        assert "error while loading model" in answer.json()["error"]["message"]
    assert (await house.client.get("/models")).json() == []


async def test_c23_no_purge_of_a_folder_that_is_no_store(house: Storehouse, tmp_path: Path) -> None:
    await house.add(tmp_path, "m")
    (house.store.root / "layout.json").unlink()
    answer = await house.client.delete("/models/purge")
    assert answer.status_code == 500
    assert "layout.json" in answer.json()["error"]["message"]
    assert (await house.client.get("/models/m")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/models/m"), ("POST", "/models/m/other"), ("PATCH", "/models")]
)
async def test_what_is_not_there_is_404(house: Storehouse, method: str, path: str) -> None:
    assert (await house.client.request(method, path)).status_code == 404
