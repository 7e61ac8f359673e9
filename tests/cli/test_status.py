"""What `caravan status` shows of what Redis says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest
from arq.connections import ArqRedis
from rich.console import Console

from cli.problems import Problem
from cli.status import Snapshot, duration, render, show, state_of, take
from shared import presence
from shared.presence import LoadedModel, ModelCard, WorkerCard
from shared.queue import Queue
from shared.requests import Chat, Generate

CARD = WorkerCard(
    id="host-1",
    host="host",
    pid=1,
    device="CPU",
    started_ms=0,
    models=(
        LoadedModel(
            model="ai/a:latest", slots=16, slots_busy=2, cells=100, cells_used=7, tokens_per_s=60.5
        ),
    ),
)


def shown(snapshot: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, first: str) -> list[str]:
    """The row that begins with `first`; columns are two blanks apart."""
    [row] = [line.strip() for line in text.splitlines() if line.strip().startswith(f"{first} ")]
    return re.split(r"\s{2,}", row)


async def enqueue(queue: Queue, *jobs: str) -> None:
    await presence.add_model(queue.redis, ModelCard(ref="ai/a:latest", created=0))
    for job in jobs:
        request = Generate(id=job, model="ai/a:latest", input=Chat(messages=()))
        await queue.enqueue(request, reply="r", cost=1)


async def test_workers_and_queues(fake_redis: ArqRedis) -> None:
    queue = Queue(fake_redis)
    await enqueue(queue, "1", "2", "3")
    await queue.claim("ai/a:latest", worker="host-1", most=1)
    await presence.show(fake_redis, CARD)
    twin = msgspec.structs.replace(CARD, id="host-2", draining=True)
    await presence.show(fake_redis, twin)

    snapshot = msgspec.structs.replace(await take(fake_redis), taken_ms=180_000)
    text = shown(snapshot)
    assert cells(text, "host-1") == [
        "host-1", "CPU", "3 min", "ai/a", "ready", "2/16", "7%", "0", "60.5",
    ]  # fmt: skip
    assert cells(text, "host-2")[4] == "draining"
    assert cells(text, "ai/a") == ["ai/a", "2", "0", "1", "121.0"]


async def test_nothing_there_is_said(fake_redis: ArqRedis) -> None:
    text = shown(await take(fake_redis))
    assert "No worker is running." in text
    assert "no model yet" in text


@pytest.mark.redis
async def test_json_for_programs(real_redis: ArqRedis, redis_url: str) -> None:
    await enqueue(Queue(real_redis), "1")
    console = Console(file=io.StringIO(), width=20)
    await show(redis_url, console, as_json=True)
    assert isinstance(console.file, io.StringIO)
    snapshot = msgspec.json.decode(console.file.getvalue(), type=Snapshot)
    assert snapshot.queues[0].interactive == 1


async def test_no_redis_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="Redis does not answer at unix://"):
        await show(f"unix://{tmp_path}/none.sock", Console())


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (1e6, "11 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_model_on_its_way_says_how_far_it_is() -> None:
    assert state_of(LoadedModel(model="m", state="loading", percent=42)) == "loading 42 %"
    assert state_of(LoadedModel(model="m")) == "ready"
