"""Stores, a real registry, and options that do not wait."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from workers.models.remote.options import RemoteOptions, Retry
from workers.models.remote.progress import Progress
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.remote.pulling import Pulled
from workers.models.remote.push import Pushed
from workers.models.store.store import Store, open_store

HASTY = Retry(attempts=3, first_s=0.001, longest_s=0.01)
OPTIONS = RemoteOptions(retry=HASTY, timeout_s=10)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return open_store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another one: the other end of a transfer."""
    return open_store(tmp_path / "other")


@pytest.fixture
async def pulls(store: Store) -> AsyncIterator[Pulls]:
    """Pulls into `store` that retry at once."""
    async with open_pulls(store, OPTIONS) as opened:
        yield opened


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a real registry."""
    binary = shutil.which("docker-registry")
    if not binary:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}', secret: test}}\n"
    )
    process = subprocess.Popen(
        [binary, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, "docker-registry ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise TimeoutError("docker-registry does not listen")


async def watch(
    transfer: AsyncIterator[Progress | Pulled | Pushed],
) -> tuple[list[Progress], Pulled | Pushed]:
    """All progress of a transfer and its result."""
    seen = [each async for each in transfer]
    last = seen.pop()
    assert not isinstance(last, Progress)
    progress = [each for each in seen if isinstance(each, Progress)]
    assert len(progress) == len(seen)
    return progress, last


async def pulled(transfer: AsyncIterator[Progress | Pulled]) -> Pulled:
    """A pull's result."""
    _, last = await watch(transfer)
    assert isinstance(last, Pulled)
    return last
