"""Looks at what waits and what is held, asks workers/placement.py, and does what it says.

A worker that was given its models loads them at the start and keeps them. A worker of the pool
looks when it hears of work for a model it has not, when a model's time is over, and at a slow tick
for what it may have missed. One look is a few round trips to Redis, and never waits for a model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog
from msgspec.structs import replace
from redis.exceptions import RedisError

from shared import model_config
from shared.control import Configured, Control, Delete, Unload
from shared.errors import CaravanError
from shared.presence import LoadedModel, WorkerCard
from shared.settings import Settings
from workers import local
from workers.adoption import WATCH_S, Adoption
from workers.arrivals import Arrivals
from workers.held import held, keep_s, line
from workers.library import Budget, Library
from workers.placement import Held, Wanted, moves, next_expiry_s
from workers.residents import Residents
from workers.served import Served
from workers.survey import Survey, Waiting

log = structlog.get_logger()

AGAIN_S = 0.25  # while something is wanted that cannot be loaded yet
OUTAGE_S = 0.5
REFUSING_S = 1.0

Refuse = Callable[[str, CaravanError], Served]


class Placer:
    """`worker` is this worker's card without models; `refuse` makes what ends all jobs of a queue,
    `wake` lets jobs of a model be claimed."""

    def __init__(
        self,
        settings: Settings,
        *,
        worker: WorkerCard,
        survey: Survey,
        library: Library,
        budget: Budget,
        residents: Residents,
        arrivals: Arrivals,
        refuse: Refuse,
        wake: Callable[[str], None],
    ) -> None:
        self.fixed = set() if settings.pool else set(local.names(settings))
        self._settings = settings
        self._worker = worker
        self._survey = survey
        self._library = library
        self._budget = budget
        self._residents = residents
        self._arrivals = arrivals
        self._refuse = refuse
        self._wake = wake
        self._adoption = Adoption(library, worker=worker.id)
        self._news = asyncio.Event()
        self._woken: set[str] = set()
        self._told: set[str] = set()  # to be unloaded, if idle
        self._doomed: set[str] = set()
        self._configured: set[str] = set()
        self._offered = self._unmet = False
        self._ticked_s = float("-inf")
        self._pauses: list[float] = []

    def woken(self, ref: str) -> None:
        """There is work for a model that is not here; if others have it, there is no hurry."""
        self._woken.add(ref)
        if ref not in self._adoption.elsewhere:
            self._news.set()

    def changed(self) -> None:
        """A model has come or gone."""
        self._news.set()

    def look_again(self) -> None:
        """Something may have been missed: look at everything."""
        self._ticked_s = float("-inf")
        self._news.set()

    def ended(self, served: Served) -> None:
        """A run of a model, or a claim for it, is over."""
        awaited = served.tenure.leaving or served.ref in self._told
        if served.settled and (awaited or self._unmet or keep_s(served) == 0):
            self._news.set()

    def obey(self, order: Control) -> None:
        """An order about a model. Only idle ones are unloaded; deleted ones serve what waits."""
        match order:
            case Unload(model=ref):
                self._told.add(ref)
                self._news.set()
            case Delete(model=ref):
                self._doomed.add(ref)
                self._news.set()
            case Configured(model=ref):
                self._configured.add(ref)
                self._news.set()
            case _:
                return

    def card(self, models: Iterable[LoadedModel]) -> WorkerCard:
        """This worker's card; `models` are those that are here."""
        residents, taken = self._residents, self._residents.taken_bytes
        total = self._budget.total_bytes(taken_bytes=taken)
        coming = (one.card for one in residents.loading.values())
        going = (line(one, state="unloading") for one in residents.unloading.values())
        return replace(
            self._worker,
            models=(*models, *coming, *going),
            pool=self._offered,
            memory_bytes=total,
            memory_free_bytes=max(0, total - taken),
            memory_pinned_bytes=residents.pinned_bytes,
        )

    async def run(self) -> None:
        """Look until cancelled; an outage of Redis is waited out."""
        while True:
            self._news.clear()
            try:
                await self._offer()
                pause_s = await self.look()
            except (RedisError, OSError) as error:
                log.warning("placement.failed", error=str(error))
                pause_s = OUTAGE_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _offer(self) -> None:
        """A worker belongs to the pool once the catalog knows its own files."""
        if self._settings.pool and not self._offered:
            await self._library.announce_files()
            self._offered = True
            self._arrivals.tell()

    async def look(self) -> float:
        """One look; how long until the next one at the latest."""
        self._pauses = [self._settings.safety_tick_s]
        self._let_go()
        await self._reconfigure()
        if self._residents.loading:
            await self._survey.still_loading(self._residents.loading)
            self._pauses.append(WATCH_S)
        if self._settings.pool:
            await self._place(time.monotonic())
        else:
            await self._keep_fixed()
        return min(self._pauses)

    def _let_go(self) -> None:
        """Of models that have ended what ran, and of refusals that have been heard."""
        self._unload_told()
        now_s = time.monotonic()
        for ref, served in list(self._residents.served.items()):
            if served.refusal is not None and now_s - served.tenure.used_s < REFUSING_S:
                self._pauses.append(REFUSING_S)
            elif served.settled and (served.tenure.leaving or served.refusal is not None):
                self._unload(ref)

    def _unload_told(self) -> None:
        """A claim under way has to come back first: it may bring work, or not."""
        for ref in list(self._told):
            served = self._residents.served.get(ref)
            if served is not None and served.claims and not served.publisher.runs:
                continue
            self._told.discard(ref)
            if served and served.settled and not (served.tenure.fixed or served.refusal):
                self._unload(ref)

    async def _reconfigure(self) -> None:
        """Apply what was configured: at once, or by loading anew when what runs has ended."""
        for ref in [ref for ref in self._configured if ref not in self._residents.loading]:
            self._configured.discard(ref)
            self._arrivals.plain.discard(ref)
            served, order = self._residents.served.get(ref), self._residents.orders.get(ref)
            if served is None or order is None:
                continue
            config = await model_config.read(self._survey.redis, ref)
            if model_config.needs_load(order.config, config):
                self._retire(ref)
            else:
                self._arrivals.keep(served.tenure, config.keep_alive_s)

    def _retire(self, ref: str) -> None:
        self._residents.retire(ref)
        if self._residents.served[ref].settled:
            self._unload(ref)

    def _unload(self, ref: str) -> None:
        """A job may have come in this very moment: look at its queue again."""
        self._residents.unload(ref)
        self._arrivals.tell()
        self._woken.add(ref)
        self._news.set()

    async def _keep_fixed(self) -> None:
        if here := self._doomed & self._residents.served.keys():
            self._drop(here - (await self._survey.queues(here)).keys())
            self._pauses.append(AGAIN_S)
        gone = {ref for ref in self._doomed if not self._residents.has(ref)}
        self.fixed -= gone
        self._doomed -= gone
        for ref in self.fixed:
            if not self._residents.has(ref):
                self._arrivals.load_fixed(ref)

    def _drop(self, refs: Iterable[str]) -> None:
        """Deleted models for which nothing waits any more."""
        for ref in list(refs):
            self._doomed.discard(ref)
            self.fixed.discard(ref)
            self._retire(ref)

    async def _place(self, now_s: float) -> None:
        known = {*await self._survey.models(), *self._library.files}
        queues = await self._survey.queues(self._refs(known, now_s))
        if queues.keys() - known:  # a model is in the catalog before its first job is queued
            known |= await self._survey.models()
        here = [held(one, queues.get(one.ref), now_s=now_s) for one in self._models()]
        self._doomed = {ref for ref in self._doomed if self._residents.has(ref)}
        gone = [one.ref for one in here if one.ref in self._doomed or one.ref not in known]
        self._drop(
            [one.ref for one in here if one.ref in gone and not (one.waiting or one.leaving)]
        )
        wanted = await self._wanted(queues, known, now_s)
        await self._move(here, wanted, now_s)
        self._pause_for(here, now_s)

    def _models(self) -> list[Served]:
        return [one for one in self._residents.served.values() if one.refusal is None]

    def _refs(self, known: set[str], now_s: float) -> set[str]:
        """Which queues to look at: at a tick all, else those we heard of or have to do with; also
        of models that may be here before the look is over, and are not idle then."""
        woken, self._woken = self._woken, set()
        mine = {*self._residents.served, *self._residents.loading}
        refs = {*woken, *self._adoption.since, *mine}
        if now_s - self._ticked_s < self._settings.safety_tick_s:
            return refs
        self._ticked_s = now_s
        return {*known, *refs}

    async def _wanted(
        self, queues: dict[str, Waiting], known: set[str], now_s: float
    ) -> list[Wanted]:
        waiting = {ref: one for ref, one in queues.items() if not self._residents.has(ref)}
        if not waiting:
            self._adoption.since = {}
            return []
        cards = {card.id: card for card in await self._survey.workers() if not card.draining}
        cards[self._worker.id] = self.card(map(line, self._models()))
        wanted, refused = await self._adoption.wanted(
            waiting, known=known, cards=cards, now_s=now_s
        )
        for ref, error in refused.items():
            self._residents.refuse(self._refuse(ref, error))
            self._wake(ref)
        self._pauses += [self._adoption.pause_s, *(REFUSING_S for _ in refused)]
        return wanted

    async def _move(self, here: list[Held], wanted: list[Wanted], now_s: float) -> None:
        loading = self._residents.loading.values()
        coming = [Held(ref=one.ref, bytes=one.bytes, ready=False) for one in loading]
        taken = self._residents.taken_bytes
        free = self._budget.total_bytes(taken_bytes=taken) - taken
        moved = moves([*here, *coming], wanted, free_bytes=free, now_s=now_s)
        for ref in (*moved.unload, *moved.retire):
            if ref in self._residents.served and not self._residents.served[ref].tenure.leaving:
                self._retire(ref)
        for want in (one for one in wanted if one.ref in moved.load):
            if await self._survey.claim_load(want.ref, self._worker.id, extra=want.extra):
                self._arrivals.adopt(want.ref, bytes=want.bytes, extra=want.extra)
            else:
                self._pauses.append(WATCH_S)
        self._unmet = len(moved.load) < len(wanted)

    def _pause_for(self, here: list[Held], now_s: float) -> None:
        if self._unmet:
            self._pauses.append(AGAIN_S)
        expiry_s = next_expiry_s(here, now_s=now_s)
        if expiry_s is not None:
            self._pauses.append(expiry_s)
        self._pauses += [max(AGAIN_S, one.keep_s) for one in here if one.keep_s >= 0]
