"""Answers over HTTP: SSE, NDJSON, and whole ones; the only importer of sse_starlette.

Importing sse_starlette replaces uvicorn.Server.handle_exit, and by default it cuts every stream at
SIGTERM. Its drain is switched off here: streams end by themselves, uvicorn waits for them.

The status of a stream is decided by its first events: a job that fails with them, or at once, is a
real 4xx or 5xx; later a failure can only be an event in the stream, in the dialect's shape. The
stream begins without them after FIRST_EVENT_WAIT_S: a client that waits in the queue hears so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Protocol, TypeVar

import structlog
from litestar import Response
from litestar.types import Message, Receive, Send
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus

from api.completed import Completed
from api.edge import respond_with
from api.faults import ClientGone, HTTPRequest
from api.job import Job, Wait
from api.service import Service
from api.stalls import Stalled, watched
from shared.errors import error_of
from shared.events import Event, Failed
from shared.requests import Request as Asked

log = structlog.get_logger()

AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

T = TypeVar("T")
Waiting = Callable[[Wait], bytes]
BeforeEnd = Callable[[], Awaitable[None]]

FIRST_EVENT_WAIT_S = 1.0
SEND_TIMEOUT_S = 30.0  # a client that takes nothing for so long is dead
PING = b": ping\n\n"


class Renderer(Protocol):
    """A dialect's stream: events in, wire bytes out, already framed. Pure, one a stream.

    The last events hold Finished or Failed: what closes the stream on the wire belongs there.
    """

    def feed(self, events: Sequence[Event]) -> bytes: ...


def queued_comment(wait: Wait) -> bytes:
    """What an SSE client hears while it waits: a comment, invisible to parsers."""
    if wait.loading_percent is not None:
        return f": loading {wait.loading_percent} %\n\n".encode()
    eta = f" eta_s={wait.eta_s:.1f}" if wait.eta_s is not None else ""
    return f": queued position={wait.position}{eta}\n\n".encode()


def silence(_: Wait) -> bytes:
    """What an NDJSON client hears while it waits."""
    return b""


async def sse(
    http: HTTPRequest,
    service: Service,
    asked: Asked,
    renderer: Renderer,
    *,
    ping: bytes = PING,
    waiting: Waiting = queued_comment,
    before_end: BeforeEnd | None = None,
) -> Response[bytes]:
    """Run `asked` and stream what `renderer` makes of it as text/event-stream. `before_end` is
    awaited when the renderer has had the last event and the client has not.

    Raises the CaravanError of a job that is refused or fails at once, ClientGone.
    """
    job, first = await _begin(http, service, asked)
    body = _Sse(
        _body(job, first, renderer, waiting, before_end),
        ping=service.settings.ping_s,
        ping_message_factory=lambda: ping,  # type: ignore[arg-type,return-value]
    )
    return Streamed(job, body)


def sse_of(
    http: HTTPRequest,
    service: Service,
    job: Job,
    renderer: Renderer,
    *,
    opening: bytes,
    before_end: BeforeEnd,
) -> Response[bytes]:
    """As `sse`, for a job that there is already; the stream begins at once, with `opening`."""
    announce(http, job)
    body = _body(job, (), renderer, queued_comment, before_end, opening=opening)
    return Streamed(
        job,
        _Sse(
            body,
            ping=service.settings.ping_s,
            ping_message_factory=lambda: PING,  # type: ignore[arg-type,return-value]
        ),
    )


async def ndjson(
    http: HTTPRequest,
    service: Service,
    asked: Asked,
    renderer: Renderer,
    *,
    media_type: str = "application/x-ndjson",
    first_wait_s: float = FIRST_EVENT_WAIT_S,
) -> Response[bytes]:
    """As `sse`, but lines of JSON, without pings and comments. What does not fail within
    `first_wait_s` of silence can only fail in the stream."""
    job, first = await _begin(http, service, asked, first_wait_s=first_wait_s)
    body = _Sse(
        _body(job, first, renderer, silence),
        media_type=media_type,
        ping=0,
    )
    return Streamed(job, body)


def follow(service: Service, chunks: AsyncIterator[bytes]) -> Response[bytes]:
    """A text/event-stream that follows no job: framed chunks, for as long as the client listens."""
    return Streamed(
        None,
        _Sse(chunks, ping=service.settings.ping_s),
    )


async def whole(http: HTTPRequest, service: Service, asked: Asked) -> Completed:
    """Run `asked` to its end. Raises its CaravanError, or ClientGone (then it is cancelled)."""

    return (await wholes(http, service, [asked]))[0]


async def wholes(http: HTTPRequest, service: Service, asked: Sequence[Asked]) -> list[Completed]:
    """As `whole`, for several jobs side by side: all answers, or the first error."""

    async def run(one: Asked) -> Completed:
        async with await service.start(one) as job:
            if one is asked[0]:
                announce(http, job)
            return await service.collect(job)

    async def run_all() -> list[Completed]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run(one)) for one in asked]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    return await until_disconnect(http, run_all())


async def until_disconnect(http: HTTPRequest, work: Coroutine[Any, Any, T]) -> T:
    """`work`'s result, unless the client leaves first: then `work` is cancelled, and ClientGone
    raised when its cleaning up is done. Litestar does not cancel a handler whose client left.

    The body must have been read before: what is left to receive is the disconnect.
    """
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(http.receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await _end(working)
        await _end(watching)


class _Sse(EventSourceResponse):
    """Without a timer a write: `watched` has one a stream."""

    async def _send_with_timeout(self, send: Send, message: Message) -> None:  # type: ignore[override]
        await send(message)


class Streamed(Response[bytes]):
    """A response whose body follows a job; the job ends with it, sent or not. Or follows none."""

    def __init__(self, job: Job | None, body: Any) -> None:
        super().__init__(b"")
        self._job = job
        self._body = body

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """The body itself: its status and headers are its own."""
        return self._send

    async def _send(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._job or nullcontext():
            try:
                async with watched(send, limit_s=SEND_TIMEOUT_S) as send_on:
                    await self._body(scope, receive, send_on)
            except Stalled:
                job = self._job.id if self._job else None
                log.warning("stream.stalled", job=job, limit_s=SEND_TIMEOUT_S)


async def _begin(
    http: HTTPRequest,
    service: Service,
    asked: Asked,
    *,
    first_wait_s: float = FIRST_EVENT_WAIT_S,
) -> tuple[Job, tuple[Event, ...]]:
    async def begin() -> tuple[Job, tuple[Event, ...]]:
        job = await service.start(asked)
        try:
            announce(http, job)
            first = await _first(job, first_wait_s)
            if first and isinstance(first[-1], Failed):
                raise error_of(first[-1])
        except BaseException:
            await job.close()
            raise
        return job, first

    return await until_disconnect(http, begin())


async def _first(job: Job, wait_s: float) -> tuple[Event, ...]:
    """The first events; () when there are none after `wait_s`."""
    until_s = time.monotonic() + wait_s
    while (left_s := until_s - time.monotonic()) > 0:
        if first := await job.take(wait_s=min(left_s, FIRST_EVENT_WAIT_S)):
            return first
    return ()


async def _body(
    job: Job,
    first: tuple[Event, ...],
    renderer: Renderer,
    waiting: Waiting,
    before_end: BeforeEnd | None = None,
    *,
    opening: bytes = b"",
) -> AsyncIterator[bytes]:
    if opening:
        yield opening
    events = first
    while True:
        data = b""
        if events:
            data = renderer.feed(events)
        elif job.place:
            data = waiting(await job.wait())
        if job.end is not None and before_end is not None:
            await before_end()
        if data:
            yield data
        if job.end is not None:
            return
        events = await job.take()


def announce(http: HTTPRequest, job: Job) -> None:
    """Response headers that say which job this is, and how many were before it."""
    respond_with(
        http.scope, {"x-caravan-job": job.id, "x-queue-position": str(job.ticket.position)}
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel and wait for the cleaning up; its outcome was taken, or nobody wants it."""
    if not task.done():
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
