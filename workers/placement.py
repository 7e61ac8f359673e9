"""Which models to load, keep and unload. Pure: values in, values out; no clock, no Redis, no C.

Rules. Idle models go when their time is over, and before it, least recently used first, when
another needs the room; those kept for ever go last, pinned ones never. A model with work is never
thrown out: it may have to stop claiming, ends what runs, and then goes. That is asked of it only
when all that waits for it came later than what waits for the other, so waiting models take turns
and one swap serves a whole batch. Whoever waits longest is placed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from shared.presence import LoadedModel, WorkerCard

HOT_LEAST_S = 2.0  # a wait shorter than this is no reason for a second copy
BYTES_PER_S = 500e6  # of a load nobody has timed yet
BACKOFF_FIRST_S = 5.0
BACKOFF_MOST_S = 300.0
CRASHES = 3  # loads that took their worker down, after which waiting jobs are told


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A model here. Times are of one clock, in seconds.

    `busy`: jobs of it run, or are being claimed. `waiting` jobs are in its queue, the oldest since
    `waiting_since_s`. `used_s` is the end of its last use, `ready_s` of its loading, which took
    `load_s`. It is kept `keep_s` (negative: for ever). `leaving`: it claims no more.
    """

    ref: str
    bytes: int
    ready: bool = True
    pinned: bool = False
    leaving: bool = False
    busy: bool = False
    waiting: int = 0
    waiting_since_s: float = 0.0
    used_s: float = 0.0
    ready_s: float = 0.0
    load_s: float = 0.0
    keep_s: float = 300.0

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it now."""
        return self.ready and not (self.leaving or self.pinned or self.busy or self.waiting)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A model to load, for jobs that wait since `since_s`; `extra`: others serve it already."""

    ref: str
    bytes: int
    since_s: float
    extra: bool = False


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now: `load` fits already; `unload` is idle; `retire` ends its work, then goes."""

    load: tuple[str, ...] = ()
    unload: tuple[str, ...] = ()
    retire: tuple[str, ...] = ()


def moves(
    held: Sequence[Held], wanted: Sequence[Wanted], *, free_bytes: int, now_s: float
) -> Moves:
    """`free_bytes` is not taken by any of `held`. What has to go first is loaded next time."""
    going = {one.ref for one in held if expired(one, now_s=now_s)}
    retired: set[str] = set()
    load = []
    free = free_bytes
    coming = sum(one.bytes for one in held if one.leaving or one.ref in going)
    for want in sorted(wanted, key=lambda one: (one.extra, one.since_s, one.ref)):
        if want.bytes <= free:
            load.append(want.ref)
            free -= want.bytes
            continue
        stay = [one for one in held if not one.leaving and one.ref not in going | retired]
        victims = _victims(stay, want, missing=want.bytes - free - coming, now_s=now_s)
        if victims is None:
            continue
        going |= {one.ref for one in victims if one.idle}
        retired |= {one.ref for one in victims if not one.idle}
        coming += sum(one.bytes for one in victims)
        # Room is kept for it: those behind may have what is left over.
        from_free = min(free, want.bytes)
        free, coming = free - from_free, coming - (want.bytes - from_free)
    return Moves(load=tuple(load), unload=tuple(sorted(going)), retire=tuple(sorted(retired)))


def expired(one: Held, *, now_s: float) -> bool:
    """Whether an idle model's time is over."""
    return one.idle and 0 <= one.keep_s <= now_s - one.used_s


def next_expiry_s(held: Iterable[Held], *, now_s: float) -> float | None:
    """How long until some idle model's time is over; None: never."""
    left = [one.used_s + one.keep_s - now_s for one in held if one.idle and one.keep_s >= 0]
    return max(0.0, min(left)) if left else None


def _victims(
    stay: Sequence[Held], want: Wanted, *, missing: int, now_s: float
) -> list[Held] | None:
    """Who makes room for `missing` bytes, none more than needed; None when it cannot be had."""
    idle = sorted((one for one in stay if one.idle), key=lambda one: (one.keep_s < 0, one.used_s))
    busy = [] if want.extra else [one for one in stay if _turn_over(one, want, now_s=now_s)]
    found: list[Held] = []
    for one in [*idle, *sorted(busy, key=lambda one: (one.waiting > 0, one.used_s))]:
        if missing <= 0:
            break
        found.append(one)
        missing -= one.bytes
    if missing > 0:
        return None
    return _needed(found, spare=-missing)


def _needed(found: Sequence[Held], *, spare: int) -> list[Held]:
    """Without those whom the later ones made superfluous."""
    kept = []
    for one in found:
        if one.bytes <= spare:
            spare -= one.bytes
        else:
            kept.append(one)
    return kept


def _turn_over(one: Held, want: Wanted, *, now_s: float) -> bool:
    """Whether a model with work has served all that waited when it came, and all that came before
    what the other waits for; and it was here for as long as its loading took."""
    if not one.ready or one.pinned or one.leaving or one.idle:
        return False
    if not one.waiting:
        return True
    batch_s = max(one.ready_s, want.since_s)
    return one.waiting_since_s > batch_s and now_s - one.ready_s >= one.load_s


# -- which worker ----------------------------------------------------------------------------------


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for one model: jobs, and for how long the oldest at the head of a lane does."""

    waiting: int = 0
    oldest_s: float = 0.0


def case_for(
    backlog: Backlog, servers: Sequence[LoadedModel], *, size_bytes: int
) -> Literal["", "cold", "hot"]:
    """Why one more worker should load it: nobody has it, or who has it is slower than a load."""
    if not backlog.waiting:
        return ""
    serving = [one for one in servers if one.state != "unloading"]
    if not serving:
        return "cold"
    if any(one.state == "loading" for one in serving):
        return ""
    load_s = max((one.load_s for one in serving), default=0.0) or size_bytes / BYTES_PER_S
    return "hot" if _wait_s(backlog, serving) > max(HOT_LEAST_S, load_s) else ""


def _wait_s(backlog: Backlog, serving: Sequence[LoadedModel]) -> float:
    """How long the last one in the queue will have waited; a rate counts once somebody waits."""
    rate = sum(one.jobs_per_s for one in serving)
    if backlog.oldest_s < HOT_LEAST_S / 2 or not rate:
        return backlog.oldest_s
    return max(backlog.oldest_s, backlog.waiting / rate)


def capacity(card: WorkerCard) -> int:
    """The most bytes a worker could give one more model, with all but pinned ones gone."""
    return card.memory_bytes - card.memory_pinned_bytes


def rank(
    cards: Iterable[WorkerCard], me: str, *, model: str, size_bytes: int, extra: bool = False
) -> int | None:
    """My place among those who could load it, most free memory first; None when I could not. A
    second copy is no reason to throw out what others need: it wants free memory."""
    able = [
        card
        for card in cards
        if card.pool
        and not card.draining
        and all(one.model != model for one in card.models)
        and (card.memory_free_bytes if extra else capacity(card)) >= size_bytes
    ]
    order = sorted(able, key=lambda card: (-card.memory_free_bytes, card.id))
    return next((place for place, card in enumerate(order) if card.id == me), None)


def backoff_s(attempts: int) -> float:
    """How long after so many failed loads in a row the next may begin."""
    return min(BACKOFF_FIRST_S * 2.0 ** max(0, attempts - 1), BACKOFF_MOST_S)
