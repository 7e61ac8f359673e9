"""Loads under way: who was told to come, how far it is, what became of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from shared import model_config
from shared.errors import CaravanError, ModelTooBig
from shared.model_errors import ModelNotFound
from shared.settings import Settings
from workers.library import Budget, Library
from workers.order import Order
from workers.residents import Loading, Residents
from workers.served import Tenure
from workers.survey import Survey

log = structlog.get_logger()


class Arrivals:
    """`tell` shows the worker's card at once, `arrived(ref)` is called when a model is there or is
    not. `trouble` is set when one that the worker was given cannot be served."""

    def __init__(
        self,
        settings: Settings,
        *,
        survey: Survey,
        library: Library,
        budget: Budget,
        residents: Residents,
        tell: Callable[[], Awaitable[None]],
        arrived: Callable[[str], None],
    ) -> None:
        self.trouble: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.plain: set[str] = set()  # models whose configuration did not work
        self._settings = settings
        self._survey = survey
        self._library = library
        self._budget = budget
        self._residents = residents
        self._tell = tell
        self._arrived = arrived
        self._tasks: set[asyncio.Future[None]] = set()

    async def failed(self) -> None:
        """Never returns; raises why the worker cannot do what it was started for."""
        await self.trouble

    def load_fixed(self, ref: str) -> None:
        """A model that this worker was given."""
        self._load(ref, Tenure(began_s=time.monotonic()), bytes=0)

    def adopt(self, ref: str, *, bytes: int, extra: bool) -> None:
        """A model of the pool; `extra`: another worker has it too."""
        log.info("model.adopted", model=ref, extra=extra)
        tenure = Tenure(fixed=False, pinned=False, extra=extra, began_s=time.monotonic())
        self._load(ref, tenure, bytes=bytes)

    def keep(self, tenure: Tenure, configured_s: float | None) -> None:
        """How long it stays, by its configuration or the worker's setting."""
        if tenure.fixed:
            return
        tenure.keep_s = self._settings.keep_alive_s if configured_s is None else configured_s
        tenure.pinned = configured_s is not None and configured_s < 0

    def soon(self, work: Awaitable[None]) -> None:
        """Do it beside. What Redis does not hear now, it sees with the next card."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def tell(self) -> None:
        """Show the worker's card."""
        self.soon(self._tell())

    def _load(self, ref: str, tenure: Tenure, *, bytes: int) -> None:
        self.soon(
            self._follow(self._residents.load(ref, tenure, bytes=bytes, prepare=self._prepare))
        )

    async def _prepare(self, loading: Loading) -> Order:
        """Its files, here, and how to load it. Raises CaravanError."""
        ref, tenure = loading.ref, loading.tenure
        plain = ref in self.plain
        order = await self._library.order(ref, heard=loading.progress, plain=plain)
        loading.order = order
        self.keep(tenure, order.config.keep_alive_s)
        taken = self._residents.taken_bytes
        pinned = self._residents.pinned_bytes - (loading.bytes if tenure.pinned else 0)
        room = self._budget.total_bytes(taken_bytes=taken) - pinned
        if order.need.total > room and (self._settings.memory_bytes or not tenure.fixed):
            raise ModelTooBig.of(ref, needed_bytes=order.need.total, most_bytes=max(0, room))
        return order

    async def _follow(self, loading: Loading) -> None:
        await self._tell()
        error = await loading.outcome
        self._arrived(loading.ref)
        if error is None:
            await self._tell()
            await self._survey.loaded(loading.ref)
        elif loading.stopped:
            await self._survey.loaded(loading.ref)
        else:
            await self._failed(loading, error)
        self._arrived(loading.ref)

    async def _failed(self, loading: Loading, error: CaravanError) -> None:
        ref, order = loading.ref, loading.order
        if not loading.tenure.fixed:
            await self._survey.load_failed(ref, error.message)
        elif order and model_config.needs_load(order.config, model_config.ModelConfig()):
            log.error("model.configuration_refused", model=ref, error=error.message)
            self.plain.add(ref)
        elif not self.trouble.done():
            if isinstance(error, ModelNotFound):
                error.message += "; a worker with CARAVAN_POOL=true starts without it"
            self.trouble.set_exception(error)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, RedisError | OSError | CaravanError):
            log.warning("placement.untold", error=str(error))
        elif not self.trouble.done():
            self.trouble.set_exception(error)
