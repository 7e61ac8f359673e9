"""`caravan pull`, `caravan models …` and the rest, against a real api, store and registry."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from arq.connections import ArqRedis
from typer.testing import CliRunner, Result

from cli.main import app
from cli.problems import Problem
from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.storehouse import Storehouse, hasty, storehouse
from tests.registry import run_registry
from tests.workers.models.store.files import gguf_bytes

pytestmark = pytest.mark.redis


@pytest.fixture
async def house(real_redis: ArqRedis, settings: Settings) -> AsyncIterator[Storehouse]:
    async with storehouse(real_redis, hasty(settings)) as house:
        yield house


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


class Terminal:
    """Runs `caravan …` against an api and answers what it printed."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, *words: str) -> str:
        result = await self.run(*words)
        if result.exception is not None:
            raise result.exception
        return result.output

    async def run(self, *words: str) -> Result:
        command = [*words, "--url", self._url]
        return await asyncio.to_thread(CliRunner().invoke, app, command)


@pytest.fixture
async def caravan(house: Storehouse) -> AsyncIterator[Terminal]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with serve(house.app) as url:
        yield Terminal(url)
    structlog.reset_defaults()


@pytest.mark.registry
async def test_c54_a_model_s_life(
    house: Storehouse, caravan: Terminal, registry: str, tmp_path: Path
) -> None:
    assert "no model yet" in await caravan("models", "ls")
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf_bytes(3_000_000, seed="cli"))
    assert "Imported: tiny" in await caravan("models", "import", str(path))

    name = f"{registry}/org/cli:v1"
    assert f'"{name}"' in await caravan("models", "tag", "tiny", name)
    assert "Model pushed successfully" in await caravan("models", "push", name)
    assert "Deleted: sha256:" in await caravan("models", "rm", "tiny", name)
    assert house.store.all() == []

    remote = json.loads(await caravan("models", "show", name, "--remote"))
    assert "Model pulled successfully" in await caravan("pull", name)
    assert "Using cached model" in await caravan("models", "pull", name)
    (listed,) = json.loads(await caravan("models", "ls", "--json"))
    assert listed["id"] == remote["id"] == house.store.get(name).id
    assert listed["id"][7:19] in await caravan("models", "ls")
    assert "3.00 MB" in await caravan("df")
    assert "No model is loaded" in await caravan("ps")
    assert "unloaded: 0" in await caravan("unload", "--all")


async def test_export_and_import(house: Storehouse, caravan: Terminal, tmp_path: Path) -> None:
    model = await house.add(tmp_path, "m", size=3_000_000)
    tar = tmp_path / "m.tar"
    assert "m.tar" in await caravan("models", "export", "m", "-o", str(tar))
    await caravan("models", "rm", "m")
    assert model.id in await caravan("models", "import", str(tar))
    assert house.store.get(model.id).tags == ()
    await caravan("models", "import", str(tar), "again:v2")
    assert house.store.get("again:v2").id == model.id


async def test_a_model_in_parts(house: Storehouse, caravan: Terminal, tmp_path: Path) -> None:
    for at in (1, 2):
        part = tmp_path / f"big-0000{at}-of-00002.gguf"
        part.write_bytes(gguf_bytes(seed=str(at), **{"split.count": 2}))
    await caravan("models", "import", str(tmp_path / "big-00001-of-00002.gguf"), "big")
    assert len(house.store.artifact_of(house.store.get("big").id).manifest.layers) == 2
    part.unlink()
    result = await caravan.run("models", "import", str(tmp_path / "big-00001-of-00002.gguf"))
    assert isinstance(result.exception, Problem)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["models", "rm", "none"], "error while deleting model"),
        (["models", "show", "none"], "model not found"),
        (["models", "push", "none"], "Model not found"),
        (["models", "export", "none"], "model not found"),
        (["models", "tag", "none", "other"], "model not found"),
        (["pull", "A B"], "Invalid model reference: "),
        (["models", "import", "/none.gguf"], "there is no file"),
        (["unload"], "--all"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    caravan: Terminal, words: list[str], says: str
) -> None:
    result = await caravan.run(*words)
    assert isinstance(result.exception, Problem)
    assert says in str(result.exception)


async def test_without_an_api(tmp_path: Path) -> None:
    result = await Terminal("http://127.0.0.1:9").run("models", "ls")
    assert isinstance(result.exception, Problem)
    assert "no answer from http://127.0.0.1:9" in str(result.exception)
