"""The policy: who is loaded, who goes, who waits, whose turn it is. Tables and a simulation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.presence import LoadedModel, WorkerCard
from workers.placement import (
    Backlog,
    Held,
    Moves,
    Wanted,
    backoff_s,
    capacity,
    case_for,
    expired,
    moves,
    next_expiry_s,
    rank,
)

NOW = 1000.0


def held(ref: str, size: int = 10, **more: object) -> Held:
    """Idle since 10 s, loaded 100 s ago in 1 s."""
    given = {"used_s": NOW - 10, "ready_s": NOW - 100, "load_s": 1.0, **more}
    return Held(ref=ref, bytes=size, **given)  # type: ignore[arg-type]


def want(ref: str, size: int = 10, *, ago_s: float = 5.0, extra: bool = False) -> Wanted:
    return Wanted(ref=ref, bytes=size, since_s=NOW - ago_s, extra=extra)


def decide(have: list[Held], wanted: list[Wanted], free: int = 0) -> Moves:
    return moves(have, wanted, free_bytes=free, now_s=NOW)


BUSY = {"busy": True}
OLD = {"waiting": 3, "waiting_since_s": NOW - 60}  # before what is wanted
YOUNG = {"waiting": 3, "waiting_since_s": NOW - 1}
A, B = held("a"), held("b", used_s=NOW - 20)

TABLE: dict[str, tuple[list[Held], list[Wanted], int, Moves]] = {
    "it fits": ([A], [want("x")], 10, Moves(load=("x",))),
    "least recently used goes": ([A, B], [want("x")], 0, Moves(unload=("b",))),
    "as many as are needed": ([A, B], [want("x", 15)], 0, Moves(unload=("a", "b"))),
    "no more than needed": (
        [held("tiny", 1, used_s=NOW - 99), A],
        [want("x")],
        0,
        Moves(unload=("a",)),
    ),
    "pinned ones stay": ([replace(A, pinned=True)], [want("x")], 0, Moves()),
    "those kept for ever go last": (
        [replace(B, keep_s=-1), A],
        [want("x")],
        0,
        Moves(unload=("a",)),
    ),
    "but they go": ([replace(A, keep_s=-1)], [want("x")], 0, Moves(unload=("a",))),
    "who runs ends first": ([held("a", **BUSY)], [want("x")], 0, Moves(retire=("a",))),
    "an idle one rather than one that runs": (
        [held("a", used_s=NOW - 99, **BUSY), A],
        [want("x")],
        0,
        Moves(unload=("a",)),
    ),
    "its older jobs come first": ([held("a", **OLD)], [want("x")], 0, Moves()),
    "its younger jobs wait": ([held("a", **YOUNG)], [want("x")], 0, Moves(retire=("a",))),
    "its batch comes first, though younger": (
        [held("a", ready_s=NOW - 0.5, **YOUNG)],
        [want("x")],
        0,
        Moves(),
    ),
    "it stays as long as its loading took": (
        [held("a", load_s=200.0, **YOUNG)],
        [want("x")],
        0,
        Moves(),
    ),
    "room that comes is not made twice": (
        [held("a", leaving=True, busy=True), B],
        [want("x")],
        0,
        Moves(),
    ),
    "what is loading is no victim": ([held("a", ready=False)], [want("x")], 0, Moves()),
    "who waits longest is first": (
        [],
        [want("x", ago_s=1), want("y", ago_s=9)],
        10,
        Moves(load=("y",)),
    ),
    "a small one may pass one that cannot have its room yet": (
        [held("a", 20, **OLD)],
        [want("big", 20, ago_s=9), want("small", 5)],
        5,
        Moves(load=("small",)),
    ),
    "but not take the room that is being made": (
        [held("a", 15, **BUSY)],
        [want("big", 20, ago_s=9), want("small", 5)],
        5,
        Moves(retire=("a",)),
    ),
    "a second copy throws nobody out that works": (
        [held("a", **BUSY)],
        [want("x", extra=True)],
        0,
        Moves(),
    ),
    "first copies come before second ones": (
        [],
        [want("x", ago_s=9, extra=True), want("y", ago_s=1)],
        10,
        Moves(load=("y",)),
    ),
    "idle too long": ([held("a", keep_s=9.0), held("b", keep_s=11.0)], [], 0, Moves(unload=("a",))),
    "not wanted at all any more": ([held("a", keep_s=0.0)], [], 0, Moves(unload=("a",))),
    "not while jobs wait": ([held("a", keep_s=0.0, **OLD)], [], 0, Moves()),
    "not while it runs": ([held("a", keep_s=0.0, busy=True)], [], 0, Moves()),
    "one that goes anyway makes the room": (
        [held("a", keep_s=1.0), B],
        [want("x")],
        0,
        Moves(unload=("a",)),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_moves(name: str) -> None:
    have, wanted, free, expected = TABLE[name]
    assert decide(have, wanted, free) == expected


def test_for_ever_and_five_minutes() -> None:
    """C47: a short one idle for a second goes, one for ever idle for an hour stays."""
    short = held("short", keep_s=0.5, used_s=NOW - 1)
    ever = held("ever", keep_s=-1.0, used_s=NOW - 3600)
    assert [expired(one, now_s=NOW) for one in (short, ever)] == [True, False]
    assert next_expiry_s([ever], now_s=NOW) is None
    assert next_expiry_s([ever, held("a", keep_s=15.0)], now_s=NOW) == 5.0


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_arrivals_are_all_served_within_the_budget(data: st.DataObject) -> None:
    """A simulation: arrivals for models of any size, one worker. Never over budget, nobody waits
    for ever, and a model is not thrown out with work that came before the others'."""
    sizes = data.draw(st.lists(st.integers(1, 10), min_size=1, max_size=5))
    budget = data.draw(st.integers(max(sizes), 20))
    arrivals = data.draw(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, len(sizes) - 1)), max_size=40)
    )
    world = World(sizes, budget)
    for second in range(2000):
        world.tick(second, [model for at, model in arrivals if at == second])
        if second > 60 and not world.queued and not world.running:
            break
    assert not world.queued, "somebody waits for ever"
    assert world.loads <= max(1, len(arrivals)), "a load served nobody"


def test_under_steady_load_models_take_turns() -> None:
    """Room for one of two, jobs for both without end: nobody waits long, and swaps are few."""
    world = World([10, 10], budget=10)
    waited = []
    for second in range(400):
        world.tick(second, [second // 2 % 2] if second % 2 == 0 else [])
        waited += [second - when for when, _ in world.queued]
    assert 2 < world.loads < 200 / 2, "a swap serves more than two"
    assert max(waited) < 40


class World:
    """One worker: a load takes 2 ticks, a job 3, two at a time a model."""

    def __init__(self, sizes: list[int], budget: int) -> None:
        self.sizes = sizes
        self.budget = budget
        self.queued: list[tuple[int, int]] = []  # (when, model)
        self.running: list[tuple[int, int]] = []  # (ends, model)
        self.models: dict[int, Held] = {}
        self.loads = 0

    def tick(self, now: int, arrivals: list[int]) -> None:
        self.queued += [(now, model) for model in arrivals]
        self._work(now)
        have = [self._held(model) for model in self.models]
        wanted = [
            Wanted(ref=str(model), bytes=self.sizes[model], since_s=min(self._waits(model)))
            for model in {model for _, model in self.queued} - self.models.keys()
        ]
        free = self.budget - self.taken
        moved = moves(have, wanted, free_bytes=free, now_s=now)
        for ref in moved.unload:
            assert self._held(int(ref)).idle
            del self.models[int(ref)]
        for ref in moved.retire:
            self.models[int(ref)] = replace(self.models[int(ref)], leaving=True)
        for ref in moved.load:
            self.loads += 1
            self.models[int(ref)] = held(
                ref, self.sizes[int(ref)], ready=False, ready_s=now + 2, load_s=2.0, keep_s=5.0
            )
        assert self.taken <= self.budget, "over the budget"

    @property
    def taken(self) -> int:
        return sum(self.sizes[model] for model in self.models)

    def _work(self, now: int) -> None:
        ended = [(ends, model) for ends, model in self.running if ends <= now]
        self.running = [one for one in self.running if one not in ended]
        for model, one in list(self.models.items()):
            if not one.ready and now >= one.ready_s:
                one = self.models[model] = replace(one, ready=True, used_s=now)
            if any(ended_model == model for _, ended_model in ended):
                one = self.models[model] = replace(one, used_s=now)
            if one.leaving and not self._runs(model):
                del self.models[model]
            elif one.ready and not one.leaving:
                self._claim(model, now)

    def _claim(self, model: int, now: int) -> None:
        for job in [job for job in self.queued if job[1] == model][: 2 - self._runs(model)]:
            self.queued.remove(job)
            self.running.append((now + 3, model))

    def _runs(self, model: int) -> int:
        return sum(one == model for _, one in self.running)

    def _waits(self, model: int) -> list[int]:
        return [when for when, one in self.queued if one == model]

    def _held(self, model: int) -> Held:
        waits = self._waits(model)
        return replace(
            self.models[model],
            busy=bool(self._runs(model)),
            waiting=len(waits),
            waiting_since_s=min(waits, default=0),
        )


# -- which worker ----------------------------------------------------------------------------------


def server(**more: object) -> LoadedModel:
    return LoadedModel(model="m", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backlog", "servers", "case"),
    [
        (Backlog(), [], ""),
        (Backlog(waiting=1), [], "cold"),
        (Backlog(waiting=1), [server(state="unloading")], "cold"),
        (Backlog(waiting=9, oldest_s=99), [server(state="loading")], ""),
        (Backlog(waiting=9, oldest_s=1), [server()], ""),
        (Backlog(waiting=9, oldest_s=3), [server(load_s=1.0)], "hot"),
        (Backlog(waiting=9, oldest_s=3), [server(load_s=5.0)], ""),
        (Backlog(waiting=9, oldest_s=1.5), [server(load_s=5.0, jobs_per_s=1.0)], "hot"),
        (Backlog(waiting=1, oldest_s=0.5), [server(jobs_per_s=0.01)], ""),
    ],
)
def test_the_case_for_another_copy(backlog: Backlog, servers: list[LoadedModel], case: str) -> None:
    assert case_for(backlog, servers, size_bytes=100) == case


def card(id: str, free: int, **more: object) -> WorkerCard:
    given = {"pool": True, "memory_bytes": 100, "memory_free_bytes": free, **more}
    return WorkerCard(id=id, host="h", pid=1, device="cpu", started_ms=0, **given)  # type: ignore[arg-type]


def test_most_free_memory_comes_first() -> None:
    cards = [card("a", 10), card("b", 50), card("c", 50)]
    assert [rank(cards, one, model="m", size_bytes=5) for one in "abc"] == [2, 0, 1]


@pytest.mark.parametrize(
    "other",
    [
        card("a", 50, draining=True),
        card("a", 50, pool=False),
        card("a", 50, memory_pinned_bytes=80),
        card("a", 50, models=(server(),)),
    ],
)
def test_who_cannot_is_not_in_line(other: WorkerCard) -> None:
    assert rank([other, card("me", 1)], "me", model="m", size_bytes=30) == 0
    assert rank([other], "a", model="m", size_bytes=30) is None


def test_a_second_copy_wants_free_memory() -> None:
    assert rank([card("me", 20)], "me", model="m", size_bytes=30) == 0
    assert rank([card("me", 20)], "me", model="m", size_bytes=30, extra=True) is None


def test_capacity_is_all_but_what_stays() -> None:
    assert capacity(card("a", 0, memory_pinned_bytes=30)) == 70


def test_backing_off_grows_and_ends() -> None:
    assert [backoff_s(n) for n in (1, 2, 3, 20)] == [5, 10, 20, 300]
