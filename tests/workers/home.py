"""A worker's house on a fake Redis: everything but llama.cpp, which is a hand engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from arq.connections import ArqRedis

from shared import bus, codec, keys, presence
from shared.control import Control
from shared.events import Event, Failed
from shared.presence import LoadedModel, WorkerCard
from shared.queue import Queue
from shared.requests import Prompt, Request, Tokenize
from shared.settings import Settings
from tests.workers.models.test_gguf import model
from tests.workers.test_worker import Words
from workers.control import hear
from workers.engine.weights import BadModel, OnProgress
from workers.house import House
from workers.load import InThread, Order
from workers.metrics import WorkerMetrics
from workers.no_engine import NoEngine
from workers.served import Served, Tenure

ONE, TWO, THREE = "ai/one:latest", "ai/two:latest", "ai/three:latest"


class SlowWords(Words):
    """Tokenizing waits for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> tuple[int, ...]:
        assert self.go.wait(120)
        return super().tokenize(request, enqueued_s=enqueued_s)


class Home:
    """A worker process' house on a fake Redis. Loads wait for `gate`, in a thread as real ones;
    those in `broken` fail."""

    def __init__(self, redis: ArqRedis, folder: Path, name: str = "w1", **more: Any) -> None:
        for one in ("one", "two", "three"):
            (folder / f"{one}.gguf").write_bytes(model())
        offered = ",".join(f"{one}={folder / one}.gguf" for one in ("one", "two", "three"))
        given = {"model": offered, "pool": True, "memory": "40MB", "safety_tick_s": 60, **more}
        self.settings = Settings(**given, emit_interval_ms=0)
        self.redis = redis
        self.queue = Queue(redis, lease_ms=60_000)
        self.gate = threading.Event()
        self.gate.set()
        self.loads: list[str] = []
        self.broken: set[str] = set()
        self.words: dict[str, SlowWords] = {}
        keeper: Any = SimpleNamespace(depot=None, store=("", 0))
        metrics = WorkerMetrics(name)
        self.house = House(self.settings, redis, self.queue, metrics, keeper, open=self._open)
        self.metrics = metrics
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def served(self) -> dict[str, Served]:
        return self.house.residents.served

    @asynccontextmanager
    async def _open(
        self, order: Order, tenure: Tenure, in_thread: InThread, on_progress: OnProgress
    ) -> AsyncIterator[Served]:
        self.loads.append(order.ref)
        await in_thread(self._decode, order.ref, on_progress)
        words = self.words[order.ref] = SlowWords()
        tenure.ready_s = tenure.used_s = asyncio.get_running_loop().time()
        yield Served(
            order.ref,
            words,  # type: ignore[arg-type]
            queue=self.queue,
            settings=order.settings,
            context=order.settings.context or 64,
            slots=2,
            bytes=order.need.total,
            metrics=self.metrics.of(order.ref),
            tenure=tenure,
            open_engine=NoEngine,
        )

    def _decode(self, ref: str, on_progress: OnProgress) -> None:
        on_progress(0.42)
        assert self.gate.wait(120)
        if ref in self.broken:
            raise BadModel("tensor 'x' is missing")
        if not on_progress(1.0):
            raise BadModel("stopped")

    def start(self) -> None:
        patterns = [keys.WAKES] if self.settings.pool else []
        placer, worker = self.house.placer, self.house.worker
        listening = bus.listen(
            self.redis,
            [keys.CONTROL],
            patterns=patterns,
            on_message=lambda channel, data: hear(worker, channel, data, placer=placer),
            on_open=self.house.opened,
        )
        self.tasks = [asyncio.create_task(one) for one in (listening, placer.run(), worker.main())]

    async def stop(self) -> None:
        self.gate.set()
        await self.house.residents.close()
        pending = set(self.tasks)
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.1)

    async def ready(self) -> None:
        while await self.redis.hlen(keys.CATALOG) < 3:
            await asyncio.sleep(0)

    async def order(self, order: Control) -> None:
        await self.redis.publish(keys.CONTROL, codec.encode(order))

    async def put(self, job: str, ref: str = ONE, **more: Any) -> None:
        request: Request = Tokenize(id=job, model=ref, input=Prompt(text="hi"), **more)
        await self.queue.enqueue(request, reply="r", cost=1)

    async def end(self, job: str) -> Event:
        while True:
            frames = await bus.read_journal(self.redis, job)
            if frames and frames[-1].ended:
                return frames[-1].events[-1]
            await asyncio.sleep(0)


async def failure(home: Home, job: str) -> Failed:
    end = await home.end(job)
    assert isinstance(end, Failed), end
    return end


def is_card(state: str, model: str, **more: object) -> Callable[[WorkerCard], bool]:
    def true(card: WorkerCard) -> bool:
        return any(
            one.model == model
            and one.state == state
            and all(getattr(one, name) == value for name, value in more.items())
            for one in card.models
        )

    return true


async def shown(home: Home, true: Callable[[WorkerCard], bool]) -> None:
    while True:
        await home.house.heartbeat.beat()
        if any(true(card) for card, _ in await presence.workers(home.redis)):
            return
        await asyncio.sleep(0.01)


def other(*models: LoadedModel, **more: Any) -> WorkerCard:
    return WorkerCard(
        id="w0", host="h", pid=1, device="cpu", started_ms=0, pool=True, models=models, **more
    )
