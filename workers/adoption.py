"""Which models that wait this worker should load: those that nobody serves, or too slowly, when it
is the one with most free memory. And which jobs nobody can serve, so that they are told at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.errors import CannotLoad, CaravanError, ModelTooBig, UnknownModel
from shared.presence import WorkerCard
from workers.library import Library
from workers.placement import CRASHES, Wanted, backoff_s, capacity, case_for, rank
from workers.survey import Failures, Waiting

WATCH_S = 1.0  # while others serve what waits
TURN_S = 0.3  # how much later each next worker in line takes what the first one did not

Cards = Mapping[str, WorkerCard]


class Adoption:
    """Remembers since when what waits. `elsewhere`: models that others serve, so there is no hurry;
    `pause_s`: how long what was found stays true."""

    def __init__(self, library: Library, *, worker: str) -> None:
        self.since: dict[str, float] = {}
        self.elsewhere: set[str] = set()
        self.pause_s = float("inf")
        self._library = library
        self._worker = worker

    async def wanted(
        self,
        waiting: Mapping[str, Waiting],
        *,
        known: Collection[str],
        cards: Cards,
        now_s: float,
    ) -> tuple[list[Wanted], dict[str, CaravanError]]:
        """Of queues whose models are not here: what to load, and what to refuse and why."""
        self.since = {
            ref: min(self.since.get(ref, now_s), now_s - one.backlog.oldest_s)
            for ref, one in waiting.items()
        }
        self.elsewhere, self.pause_s = set(), float("inf")
        wanted: list[Wanted] = []
        refused: dict[str, CaravanError] = {}
        for ref, one in waiting.items():
            try:
                if ref not in known:
                    raise UnknownModel.of(ref)
                wanted += await self._consider(ref, one, cards, now_s)
            except CaravanError as error:
                refused[ref] = error
        return wanted, refused

    async def _consider(
        self, ref: str, waiting: Waiting, cards: Cards, now_s: float
    ) -> list[Wanted]:
        """The model, if it is to be loaded here. Raises CaravanError when nobody can load it."""
        servers = [one for card in cards.values() for one in card.models if one.model == ref]
        if servers or waiting.loader:
            self.elsewhere.add(ref)
            self._again(WATCH_S)
        if waiting.loader:
            return []
        need_bytes = await self._library.need_bytes(ref)
        case = case_for(waiting.backlog, servers, size_bytes=need_bytes)
        if not case or self._held_back(ref, waiting.failures, alone=case == "cold"):
            return []
        most = max((capacity(card) for card in cards.values() if card.pool), default=0)
        if case == "cold" and need_bytes > most:
            raise ModelTooBig.of(ref, needed_bytes=need_bytes, most_bytes=most)
        extra = case == "hot"
        place = rank(cards.values(), self._worker, model=ref, size_bytes=need_bytes, extra=extra)
        if place is None or not self._my_turn(ref, place, now_s):
            return []
        return [Wanted(ref=ref, bytes=need_bytes, since_s=self.since[ref], extra=extra)]

    def _held_back(self, ref: str, failures: Failures, *, alone: bool) -> bool:
        """Whether the last load failed too recently. Raises CannotLoad where that is to be told."""
        wait_s = backoff_s(failures.attempts) - failures.ago_s if failures.attempts else 0.0
        if wait_s <= 0:
            return False
        told = failures.error
        if not told and failures.attempts >= CRASHES:
            told = f"unable to load {ref}: it ended its worker {failures.attempts} times in a row"
        if told and alone:
            raise CannotLoad(f"{told} (next try in {wait_s:.0f} s)", param="model")
        self._again(wait_s)
        return True

    def _my_turn(self, ref: str, place: int, now_s: float) -> bool:
        """Whether those before us in line have had their time."""
        left_s = self.since[ref] + place * TURN_S - now_s
        if left_s > 0:
            self._again(left_s)
        return left_s <= 0

    def _again(self, pause_s: float) -> None:
        self.pause_s = min(self.pause_s, pause_s)
