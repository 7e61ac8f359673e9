"""The examples, as a user runs them, against a real model."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.system.fleet import fleet

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))

pytestmark = [pytest.mark.model, pytest.mark.redis, pytest.mark.timeout(240)]


async def test_every_example_prints_an_answer() -> None:
    assert len(EXAMPLES) >= 4
    async with fleet() as house:
        house.api()
        house.worker()
        await house.ready()
        for example in EXAMPLES:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(example),
                house.url,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            said, complained = await process.communicate()
            assert process.returncode == 0, f"{example.name}: {complained.decode()}"
            assert len(said.strip()) > 10, example.name
