"""The job queue: enqueue, claim, emit, finish, release, cancel. One script, one round trip each.

The rules live in shared/lua/*.lua, which say what they answer; here are their typed doors.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from arq.jobs import serialize_job
from redis.asyncio import Redis

from shared import codec, keys
from shared.control import Cancel
from shared.errors import QueueFull, UnknownModel
from shared.requests import Request

if TYPE_CHECKING:
    Client = Redis
    from redis.commands.core import AsyncScript
else:
    Client = Redis

LANES = ("interactive", "batch")
SCRIPTS = ("enqueue", "claim", "emit", "finish", "release", "cancel")
FUNCTION = "run"  # the one function arq knows; what to do stands in the payload


class Ticket(msgspec.Struct, frozen=True):
    """What enqueue answers. `position` counts from 1; 0 means a worker has it already."""

    position: int
    depth: int


class Verdict(enum.StrEnum):
    """What a claimer is to do with a job."""

    RUN = "run"
    CRASHED = "crashed"
    LATE = "late"


class Claim(msgspec.Struct, frozen=True):
    """A leased job: (job, epoch) is the right to write; `payload` is arq's."""

    job: str
    epoch: int
    verdict: Verdict
    payload: bytes
    wait_ms: int


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


class Queue:
    """All of it. Errors of the connection are redis-py's own (`redis.RedisError`)."""

    def __init__(
        self, redis: Client, *, lease_ms: int = 3000, max_attempts: int = 2
    ) -> None:
        self.redis = redis
        self._lease_ms = lease_ms
        self._max_attempts = max_attempts
        folder = files("shared") / "lua"
        self._scripts: dict[str, AsyncScript] = {
            name: redis.register_script((folder / f"{name}.lua").read_text())
            for name in SCRIPTS
        }

    async def enqueue(
        self,
        request: Request,
        *,
        reply: str,
        cost: float,
        weight: float = 1.0,
        max_queue: int = 10_000,
        deadline_ms: int = 0,
    ) -> Ticket:
        """Make the request durable. `reply` is the channel its frames go to, `cost` estimated
        tokens, `deadline_ms` an absolute time (0 = none). Raises UnknownModel, QueueFull."""
        model = request.model
        arq_job = serialize_job(
            FUNCTION,
            (codec.encode_request(request),),
            {},
            None,
            time.time_ns() // 1_000_000,
            serializer=codec.serialize_for_arq,
        )
        answer = await self._scripts["enqueue"](
            keys=[
                *self._lanes(model),
                keys.fair(model),
                keys.job(request.id),
                keys.payload(request.id),
                keys.CATALOG,
            ],
            args=[
                request.id,
                arq_job,
                model,
                request.tenant,
                request.lane,
                cost,
                weight,
                reply,
                max_queue,
                deadline_ms,
                keys.JOB_TTL_S,
                keys.FAIR_TTL_S,
                keys.wake(model),
            ],
        )
        if answer[0] == 0:
            raise UnknownModel.of(model)
        if answer[0] < 0:
            raise QueueFull(
                f"{answer[1]} jobs are waiting for {model} already; try again later"
            )
        return Ticket(position=answer[1], depth=answer[2])

    async def claim(self, model: str, *, worker: str, most: int) -> Claimed:
        """Lease up to `most` jobs; also returns expired leases to their lanes."""
        wait_ms, taken = await self._scripts["claim"](
            keys=[*self._lanes(model), keys.leases(model), keys.fair(model)],
            args=[
                worker,
                most,
                self._lease_ms,
                self._max_attempts,
                keys.job(""),
                keys.payload(""),
                keys.journal(""),
            ],
        )
        claims = tuple(
            Claim(job.decode(), epoch, Verdict(verdict.decode()), payload, wait)
            for job, epoch, verdict, payload, wait in taken
        )
        return Claimed(claims, None if wait_ms < 0 else wait_ms / 1000)

    async def write(
        self, model: str, emits: Sequence[Emit], endings: Sequence[Ending] = ()
    ) -> tuple[list[Written], list[Written]]:
        """One step's frames and the ends among them, in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        if emits:
            await self._emit(pipe, model, emits)
        for ending in endings:
            await self._finish(pipe, model, ending)
        answers = await pipe.execute()
        emitted = [Written(code) for code in answers[0]] if emits else []
        return emitted, [Written(code) for code in answers[bool(emits) :]]

    async def release(self, model: str, *, job: str, epoch: int) -> bool:
        """Hand a running job back to the head of its lane. False: it was not ours any more."""
        answer = await self._scripts["release"](
            keys=[*self._lanes(model), keys.leases(model), keys.job(job)],
            args=[job, epoch, keys.wake(model)],
        )
        return bool(answer)

    async def cancel(self, model: str, *, job: str) -> bool:
        """Stop a job wherever it is. False: it is unknown or over."""
        answer = await self._scripts["cancel"](
            keys=[
                *self._lanes(model),
                keys.job(job),
                keys.payload(job),
                keys.journal(job),
            ],
            args=[job, keys.ENDED_TTL_S, keys.CONTROL, codec.encode(Cancel(job=job))],
        )
        return bool(answer)

    async def position(self, model: str, *, job: str, lane: str) -> int:
        """The job's place, from 1; 0 when it no longer waits."""
        pipe = self.redis.pipeline(transaction=False)
        pipe.zrank(keys.lane(model, lane), job)
        pipe.zcard(keys.lane(model, "interactive"))
        rank, interactive = await pipe.execute()
        if rank is None:
            return 0
        return int(rank) + 1 + (int(interactive) if lane == "batch" else 0)

    async def depths(self, model: str) -> dict[str, int]:
        """Jobs waiting in each lane, and running."""
        pipe = self.redis.pipeline(transaction=False)
        for key in (*self._lanes(model), keys.leases(model)):
            pipe.zcard(key)
        return dict(zip((*LANES, "running"), await pipe.execute(), strict=True))

    async def _emit(self, pipe: Any, model: str, emits: Sequence[Emit]) -> None:
        names, args = [keys.leases(model)], [self._lease_ms, keys.JOB_TTL_S]
        for emit in emits:
            names += [keys.job(emit.job), keys.journal(emit.job)]
            args += [emit.job, emit.epoch, emit.number, emit.frame]  # type: ignore[list-item]
        await self._scripts["emit"](keys=names, args=args, client=pipe)

    async def _finish(self, pipe: Any, model: str, ending: Ending) -> None:
        emit = ending.emit
        await self._scripts["finish"](
            keys=[
                keys.leases(model),
                keys.job(emit.job),
                keys.journal(emit.job),
                keys.payload(emit.job),
                keys.retry(emit.job),
                keys.tenant(ending.tenant),
            ],
            args=[
                emit.job,
                emit.epoch,
                emit.number,
                emit.frame,
                keys.ENDED_TTL_S,
                "failed" if ending.failed else "done",
                ending.prompt_tokens,
                ending.completion_tokens,
            ],
            client=pipe,
        )

    @staticmethod
    def _lanes(model: str) -> list[str]:
        return [keys.lane(model, name) for name in LANES]
