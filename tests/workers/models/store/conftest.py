"""Stores, a real registry, and options that do not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.registry import run_registry
from workers.models.remote.options import RemoteOptions, Retry
from workers.models.remote.progress import Progress
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.remote.pulling import Pulled
from workers.models.remote.push import Pushed
from workers.models.store.store import Store, open_store

HASTY = Retry(attempts=3, first_s=0.001, longest_s=0.01)
OPTIONS = RemoteOptions(retry=HASTY)


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
    with run_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


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
