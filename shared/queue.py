"""The job queue: enqueue, claim, emit, finish, release, cancel, redirect. One script each, and one
round trip.

The rules live in shared/lua/*.lua, which say what they answer; here are their typed doors.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
from arq.jobs import serialize_job
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from shared import codec, keys
from shared.control import Cancel
from shared.errors import QueueFull, UnknownModel
from shared.requests import Request
from shared.storing import StoreTask

LANES = ("interactive", "batch")
SCRIPT_NAMES = ("enqueue", "claim", "emit", "finish", "release", "cancel", "redirect", "unheard")
FUNCTION = "run"  # the one function arq knows; what to do stands in the payload


class Ticket(msgspec.Struct, frozen=True):
    """What enqueue answers. `position` counts from 1; 0 means a worker has it already."""

    position: int
    depth: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands: `state` is queued, running, done, failed or cancelled. A running job may
    have been told to stop. `ended_ms` in Unix ms, 0 before the end, and of one cancelled in the
    queue."""

    state: str
    cancelled: bool
    ended_ms: int

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        return self.state in ("done", "failed", "cancelled")


class Verdict(enum.StrEnum):
    """What a claimer is to do with a job."""

    RUN = "run"
    CRASHED = "crashed"
    LATE = "late"


class Claim(msgspec.Struct, frozen=True):
    """A leased job: (job, epoch) is the right to write; `payload` is arq's. `wait_ms` is from
    enqueue to the first claim, by Redis' clock."""

    job: str
    epoch: int
    verdict: Verdict
    payload: bytes
    wait_ms: float


class Claimed(msgspec.Struct, frozen=True):
    """What claim answers; `next_expiry_s` is when some lease may expire, None without leases."""

    claims: tuple[Claim, ...]
    next_expiry_s: float | None


class Emit(msgspec.Struct, frozen=True):
    """One job's encoded frame; an empty one only keeps the lease."""

    job: str
    epoch: int
    number: int
    frame: bytes


class Written(enum.IntEnum):
    """What emit and finish answer."""

    AGAIN = -2
    CANCELLED = -1
    FENCED = 0
    OK = 1
    REPEATED = 2


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A job's last frame and what it used."""

    emit: Emit
    tenant: str
    failed: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Call(msgspec.Struct, frozen=True):
    """One script with its keys and arguments, ready to be sent."""

    script: str
    keys: list[str]
    args: list[Any]


class Queue:
    """All of it. Errors of the connection are redis-py's own (`redis.RedisError`)."""

    def __init__(self, redis: Redis, *, lease_ms: int = 3000, max_attempts: int = 2) -> None:
        self.redis = redis
        self._lease_ms = lease_ms
        self._max_attempts = max_attempts

    async def enqueue(
        self,
        request: Request,
        *,
        reply: str,
        cost: float,
        weight: float = 1.0,
        max_queue: int = 10_000,
        deadline_ms: int = 0,
        keep_s: int = 0,
    ) -> Ticket:
        """Make the request durable. `reply` is the channel its frames go to, `cost` estimated
        tokens, `deadline_ms` an absolute time (0 = none), `keep_s` how long hash and journal live
        after the end (0 = ENDED_TTL_S). Raises UnknownModel, QueueFull."""
        model, job = request.model, request.id
        names = [*_lanes(model), keys.fair(model), keys.job(job), keys.payload(job), keys.CATALOG]
        args = [job, _arq_job(request), model, request.tenant, request.lane, cost, weight, reply]
        args += [max_queue, deadline_ms, keys.JOB_TTL_S, keys.FAIR_TTL_S, keys.wake(model)]
        args += [0 if isinstance(request, StoreTask) else 1, keep_s]
        answer = await self._call(Call("enqueue", names, args))
        if answer[0] == 0:
            raise UnknownModel.of(model)
        if answer[0] < 0:
            raise QueueFull(f"{answer[1]} jobs are waiting for {model} already; try again later")
        return Ticket(position=answer[1], depth=answer[2])

    async def claim(self, model: str, *, worker: str, most: int) -> Claimed:
        """Lease up to `most` jobs; also returns expired leases to their lanes."""
        names = [*_lanes(model), keys.leases(model), keys.fair(model)]
        args: list[Any] = [worker, most, self._lease_ms, self._max_attempts]
        args += [keys.job(""), keys.payload(""), keys.journal("")]
        wait_ms, taken = await self._call(Call("claim", names, args))
        claims = tuple(
            Claim(job.decode(), epoch, Verdict(verdict.decode()), payload, float(wait))
            for job, epoch, verdict, payload, wait in taken
        )
        return Claimed(claims, None if wait_ms < 0 else wait_ms / 1000)

    async def write(
        self, model: str, emits: Sequence[Emit], endings: Sequence[Ending] = ()
    ) -> tuple[list[Written], list[Written]]:
        """One step's frames and the ends among them, in one round trip."""
        calls = [self._emit(model, emits)] if emits else []
        calls += [self._finish(model, ending) for ending in endings]
        answers = await self._calls(calls)
        emitted = [Written(code) for code in answers[0]] if emits else []
        return emitted, [Written(code) for code in answers[bool(emits) :]]

    async def release(self, model: str, *, job: str, epoch: int) -> bool:
        """Hand a running job back to the head of its lane. False: it was not ours any more."""
        names = [*_lanes(model), keys.leases(model), keys.job(job)]
        return bool(await self._call(Call("release", names, [job, epoch, keys.wake(model)])))

    async def cancel(self, model: str, *, job: str) -> bool:
        """Stop a job wherever it is. False: it is unknown or over."""
        names = [*_lanes(model), keys.job(job), keys.payload(job), keys.journal(job)]
        order = codec.encode(Cancel(job=job))
        args = [job, keys.ENDED_TTL_S, keys.CONTROL, order]
        return bool(await self._call(Call("cancel", names, args)))

    async def redirect(self, job: str, *, reply: str) -> bool:
        """Send a job's frames to another channel from now on. False: it is unknown."""
        return bool(await self._call(Call("redirect", [keys.job(job)], [reply])))

    async def unheard(self, known: Sequence[tuple[str, int]]) -> set[int]:
        """The places, from 0, of the readers that have missed something: `known` has each one's job
        and the number of the last frame it has (0 = none)."""
        names = [name for job, _ in known for name in (keys.job(job), keys.journal(job))]
        places = await self._call(Call("unheard", names, [number for _, number in known]))
        return {place - 1 for place in places}

    async def position(self, model: str, *, job: str, lane: str) -> int:
        """The job's place, from 1; 0 when it no longer waits."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrank(keys.lane(model, lane), job)
        pipe.zcard(keys.lane(model, "interactive"))
        rank, interactive = await pipe.execute()
        if rank is None:
            return 0
        return int(rank) + 1 + (int(interactive) if lane == "batch" else 0)

    async def state(self, job: str) -> str | None:
        """queued, running, done, failed or cancelled; None when there is no such job (any more)."""
        state = await self.redis.hget(keys.job(job), "state")  # type: ignore[misc]
        return state.decode() if state else None

    async def outcome(self, job: str) -> Outcome | None:
        """How a job stands, None when there is no such job (any more)."""
        names = ["state", "cancelled", "ended_ms"]
        state, cancelled, ended_ms = await self.redis.hmget(keys.job(job), names)  # type: ignore[misc]
        if state is None:
            return None
        return Outcome(
            state=state.decode(), cancelled=cancelled is not None, ended_ms=int(ended_ms or 0)
        )

    async def depths(self, model: str) -> dict[str, int]:
        """Jobs waiting in each lane, and running."""
        pipe = self.redis.pipeline(transaction=False)
        for key in (*_lanes(model), keys.leases(model)):
            pipe.zcard(key)
        return dict(zip((*LANES, "running"), await pipe.execute(), strict=True))

    def _emit(self, model: str, emits: Sequence[Emit]) -> Call:
        names, args = [keys.leases(model)], [self._lease_ms, keys.JOB_TTL_S]
        for emit in emits:
            names += [keys.job(emit.job), keys.journal(emit.job)]
            args += [emit.job, emit.epoch, emit.number, emit.frame]  # type: ignore[list-item]
        return Call("emit", names, args)

    def _finish(self, model: str, ending: Ending) -> Call:
        emit, job = ending.emit, ending.emit.job
        names = [keys.leases(model), keys.job(job), keys.journal(job), keys.payload(job)]
        names += [keys.retry(job), keys.tenant(ending.tenant)]
        state = "failed" if ending.failed else "done"
        args = [job, emit.epoch, emit.number, emit.frame, keys.ENDED_TTL_S, state]
        return Call("finish", names, [*args, ending.prompt_tokens, ending.completion_tokens])

    async def _call(self, call: Call) -> Any:
        return (await self._calls([call]))[0]

    async def _calls(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts by their digest, in one round trip. A Redis that restarted knows none of
        them: it refuses the first one and has run nothing, so they are loaded and sent again."""
        try:
            return await self._send(calls)
        except NoScriptError:
            for text, _ in SCRIPTS.values():
                await self.redis.script_load(text)
            return await self._send(calls)

    async def _send(self, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1:
            return [await _evaluate(self.redis, calls[0])]
        pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            _evaluate(pipe, call)
        return await pipe.execute()


def _evaluate(client: Any, call: Call) -> Any:
    digest = SCRIPTS[call.script][1]
    return client.evalsha(digest, len(call.keys), *call.keys, *call.args)


def _read_scripts() -> dict[str, tuple[str, str]]:
    folder = files("shared") / "lua"
    texts = {name: (folder / f"{name}.lua").read_text() for name in SCRIPT_NAMES}
    return {name: (text, hashlib.sha1(text.encode()).hexdigest()) for name, text in texts.items()}  # noqa: S324 (Redis names scripts by SHA-1)


SCRIPTS = _read_scripts()  # name -> (text, digest)


def _lanes(model: str) -> list[str]:
    return [keys.lane(model, name) for name in LANES]


def _arq_job(request: Request) -> bytes:
    now_ms = time.time_ns() // 1_000_000
    payload = (codec.encode_request(request),)
    return serialize_job(FUNCTION, payload, {}, None, now_ms, serializer=codec.serialize_for_arq)
