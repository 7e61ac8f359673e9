"""The models that live in this worker process: each has a task of its own, from its loading to its
end, with its engine, its publisher and its threads. What should come and go is decided elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import structlog
from redis.exceptions import RedisError

from shared.errors import CannotLoad, CaravanError
from shared.presence import LoadedModel
from workers.engine.plan import EngineError
from workers.engine.weights import BadModel, OnProgress
from workers.load import InThread
from workers.order import Order
from workers.served import Served, Tenure

log = structlog.get_logger()

WRONG = (CaravanError, BadModel, EngineError, OSError, RedisError)
REFUSED_AT_ONCE = 64

Prepare = Callable[["Loading"], Awaitable[Order]]
Open = Callable[[Order, Tenure, InThread, OnProgress], AbstractAsyncContextManager[Served]]


class Loading:
    """A model on its way. `bytes` is foretold, better once its file is here and `order` known;
    `outcome` is None once the model is there, or why it is not."""

    def __init__(self, ref: str, tenure: Tenure, *, bytes: int) -> None:
        self.ref = ref
        self.tenure = tenure
        self.bytes = bytes
        self.order: Order | None = None
        self.percent = 0
        self.stopped = False
        self.outcome: asyncio.Future[CaravanError | None]
        self.outcome = asyncio.get_running_loop().create_future()

    def progress(self, done: float) -> bool:
        """How much is done, 0 to 1, on the loading thread; False: stop. What was pulled first is
        not counted down to be loaded."""
        self.percent = max(self.percent, int(100 * done))
        return not self.stopped

    @property
    def card(self) -> LoadedModel:
        """Its line on the worker's card."""
        return LoadedModel(
            model=self.ref,
            state="loading",
            percent=min(99, self.percent),
            bytes=self.bytes,
            pinned=self.tenure.pinned,
        )


class Residents:
    """`served` is what the claimer claims for; `changed` is called when a model came or went.
    All methods are for the event loop, and none of them waits for a model."""

    def __init__(self, *, open: Open, changed: Callable[[], None]) -> None:
        self.served: dict[str, Served] = {}
        self.loading: dict[str, Loading] = {}
        self.unloading: dict[str, Served] = {}
        self.orders: dict[str, Order] = {}
        self._open = open
        self._changed = changed
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[str, asyncio.Event] = {}
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def has(self, ref: str) -> bool:
        """Whether it is here, comes or goes; at the end nothing comes any more."""
        return self._closing or ref in self.served or ref in self.loading or ref in self.unloading

    @property
    def taken_bytes(self) -> int:
        """Memory of all that is here, comes or goes."""
        here = [*self.served.values(), *self.unloading.values()]
        coming = sum(one.bytes for one in self.loading.values())
        return coming + sum(one.memory_bytes for one in here)

    @property
    def pinned_bytes(self) -> int:
        """Memory that no other model will get."""
        here = [one for one in self.served.values() if one.tenure.pinned]
        coming = [one for one in self.loading.values() if one.tenure.pinned]
        return sum(one.memory_bytes for one in here) + sum(one.bytes for one in coming)

    def load(self, ref: str, tenure: Tenure, *, bytes: int, prepare: Prepare) -> Loading:
        """Begin to load a model that is not here; `prepare` brings its file and says how."""
        loading = self.loading[ref] = Loading(ref, tenure, bytes=bytes)
        self._start(ref, self._live(loading, prepare), name=f"model {ref}")
        return loading

    def refuse(self, served: Served) -> None:
        """Let `served`, which has no model, end all the jobs of its queue."""
        log.warning("model.refused", model=served.ref, error=str(served.refusal))
        self.served[served.ref] = served
        self._start(served.ref, self._stay(served), name=f"refusal {served.ref}")

    def unload(self, ref: str) -> None:
        """Let go of a model that is settled: nobody can begin anything with it from now on."""
        served = self.unloading[ref] = self.served.pop(ref)
        assert served.settled, "a model with work is retired first"
        served.tenure.leaving = True
        self._ends[ref].set()

    def retire(self, ref: str) -> None:
        """Let a model end what runs, and claim no more."""
        served = self.served[ref]
        served.tenure.leaving = True
        if not served.settled:
            log.info("model.retires", model=ref, running=len(served.publisher.runs))

    async def failed(self) -> None:
        """Never returns; raises what should not have happened."""
        await self._broken

    async def close(self) -> None:
        """Stop loads, let go of everything; the runs must be over."""
        self._closing = True
        for loading in self.loading.values():
            loading.stopped = True
        for end in self._ends.values():
            end.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, ref: str, life: Any, *, name: str) -> None:
        self._ends[ref] = asyncio.Event()
        task = asyncio.create_task(life, name=name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, ref))

    def _over(self, ref: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for place in (self.served, self.loading, self.unloading, self.orders, self._ends):
            place.pop(ref, None)
        if not task.cancelled() and (error := task.exception()) and not self._broken.done():
            self._broken.set_exception(error)
        self._changed()

    async def _live(self, loading: Loading, prepare: Prepare) -> None:
        """A model's life. What goes wrong with its loading is its `outcome`, not an error."""
        with ThreadPoolExecutor(1, thread_name_prefix=f"load-{loading.ref}") as threads:
            in_thread = partial(asyncio.get_running_loop().run_in_executor, threads)
            try:
                order = self.orders[loading.ref] = await prepare(loading)
                loading.bytes = order.need.total
                async with self._open(order, loading.tenure, in_thread, loading.progress) as served:
                    await self._reside(loading, served)
            except WRONG as error:
                if loading.outcome.done():
                    raise
                log.error("model.not_loaded", model=loading.ref, error=str(error))
                loading.outcome.set_result(_as_failure(loading.ref, error))

    async def _reside(self, loading: Loading, served: Served) -> None:
        del self.loading[served.ref]
        self.served[served.ref] = served
        self._changed()
        loading.outcome.set_result(None)
        await self._stay(served)
        log.info("model.unloaded", model=served.ref)

    async def _stay(self, served: Served) -> None:
        """Publish what it says until it is let go."""
        publishing = asyncio.create_task(served.publisher.run())
        leaving = asyncio.create_task(self._ends[served.ref].wait())
        try:
            await asyncio.wait({publishing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if publishing.done():
                publishing.result()
        finally:
            publishing.cancel()
            leaving.cancel()


def _as_failure(ref: str, error: Exception) -> CaravanError:
    """What callers hear: a model that is too big or unknown says so itself."""
    if isinstance(error, CaravanError):
        return error
    return CannotLoad(f"unable to load {ref}: {error}", param="model")
