"""The parts of one worker process, made to fit each other; what runs when is workers/main.py's."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from arq.connections import ArqRedis

from shared.errors import CaravanError
from shared.queue import Queue
from shared.settings import Settings
from workers import jobs
from workers.arrivals import Arrivals
from workers.claim import LeasedWorker
from workers.engine.weights import OnProgress
from workers.heartbeat import Heartbeat
from workers.library import Budget, Library
from workers.load import InThread, Order, load, machine
from workers.metrics import WorkerMetrics
from workers.no_engine import NoEngine
from workers.placing import Placer
from workers.residents import Open, Residents
from workers.served import Served, Tenure
from workers.store_jobs import Keeper
from workers.survey import Survey
from workers.text_side import NoText

REFUSED_AT_ONCE = 64


class House:
    """Made on the event loop. `open` is how a model is loaded. Raises BadSetting for model files
    that are not there."""

    def __init__(
        self,
        settings: Settings,
        redis: ArqRedis,
        queue: Queue,
        metrics: WorkerMetrics,
        keeper: Keeper,
        *,
        open: Open | None = None,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._metrics = metrics
        self.residents = Residents(open=open or self._open, changed=self._changed)
        self.worker = LeasedWorker(
            redis,
            queue,
            worker=metrics.worker,
            served=self.residents.served,
            run=jobs.run,
            abandon=jobs.abandon,
            tick_s=settings.safety_tick_s,
            ended=lambda served: self.placer.ended(served),
        )
        self._furnish(keeper)
        self.heartbeat = Heartbeat(
            redis,
            self.placer.card,
            served=self.residents.served.values,
            metrics=metrics.text,
            draining=lambda: not self.worker.claiming,
            store=lambda: keeper.store,
        )

    def _furnish(self, keeper: Keeper) -> None:
        """What decides about models, and what brings them."""
        settings, redis = self._settings, self._queue.redis
        survey, budget = Survey(redis), Budget(settings)
        library = Library(settings, redis, keeper.depot)
        self.arrivals = Arrivals(
            settings,
            survey=survey,
            library=library,
            budget=budget,
            residents=self.residents,
            tell=lambda: self.heartbeat.beat(),
            arrived=self._arrived,
        )
        self.placer = Placer(
            settings,
            worker=machine(self._metrics.worker),
            survey=survey,
            library=library,
            budget=budget,
            residents=self.residents,
            arrivals=self.arrivals,
            refuse=self._refusal,
            wake=self.worker.wake,
        )

    async def opened(self) -> None:
        """The subscription is open, perhaps after a pause: what was published meanwhile is lost."""
        self.worker.wake()
        self.placer.look_again()

    def _open(
        self, order: Order, tenure: Tenure, in_thread: InThread, on_progress: OnProgress
    ) -> AbstractAsyncContextManager[Served]:
        return load(
            order,
            tenure,
            queue=self._queue,
            metrics=self._metrics,
            in_thread=in_thread,
            on_progress=on_progress,
        )

    def _refusal(self, ref: str, error: CaravanError) -> Served:
        return Served(
            ref,
            NoText(error),
            queue=self._queue,
            settings=self._settings,
            context=0,
            slots=REFUSED_AT_ONCE,
            bytes=0,
            metrics=self._metrics.of(ref),
            generates=False,
            tenure=Tenure(fixed=False, pinned=False),
            refusal=error,
            open_engine=NoEngine,
        )

    def _changed(self) -> None:
        self.placer.changed()

    def _arrived(self, ref: str) -> None:
        self.worker.wake(ref)
        self.placer.woken(ref)
