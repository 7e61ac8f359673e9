"""A running Caravan with the default model, and how whole clients are started against it.

Each client is a small program of its own, run with the environment of `make test-clients`: nothing
of Caravan is in it, and none of the clients' packages are in Caravan's.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.system.fleet import fleet

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BIN = ROOT / ".venv-clients" / "bin"
NODE_MODULES = HERE / "vercel" / "node_modules"
LIMIT_S = 150

Run = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason="`make test-clients` installs the clients")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.model)
            item.add_marker(pytest.mark.timeout(LIMIT_S + 60))
            if not (BIN.exists() and NODE_MODULES.exists()):
                item.add_marker(missing)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def url() -> AsyncIterator[str]:
    """One api and one worker, as their users start them."""
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        yield house.url


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    """Runs a command with CARAVAN_URL set, its home empty; answers what it printed."""

    def run(*command: str | Path, **environment: str) -> str:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            list(map(str, command)),
            env={**kept, "HOME": str(tmp_path), "CARAVAN_URL": url, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
