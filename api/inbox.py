"""Frames for this process: one subscription, fanned out to one bounded mailbox a job.

Pub/sub is the fast copy and may lose messages; the journal is the truth. A mailbox knows the number
of the next event it needs: what it has seen is dropped, and on any doubt (a number is missing, the
subscription was opened again, the mailbox ran full, a silence) it reads the journal from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec
import structlog
from redis.asyncio import Redis

from shared import bus, codec, keys
from shared.errors import Internal, QueueDown
from shared.events import Event, Frame

log = structlog.get_logger()

MOST_FRAMES = 256  # a mailbox; more is left to the journal until the client has caught up
OPEN_WAIT_S = 2.0  # how long a request waits for the first subscription before it is refused


class Mailbox:
    """One job's events, in order, each once. The inbox puts, one reader takes."""

    def __init__(self, redis: Redis, job: str) -> None:
        self.job = job
        self.behind = False  # events may be missing here: the journal must be read
        self.known = 0  # the number of the last frame taken
        self._redis = redis
        self._number = 1  # the next event needed
        self._frames: deque[Frame] = deque()
        self._reader: asyncio.Future[bool] | None = None  # waits; True: something came
        self._timer: asyncio.TimerHandle | None = None
        self._patience_s = 0.0  # until when the reader waits, by the loop's clock

    def put(self, frame: Frame) -> None:
        """A frame from the subscription; never blocks, never grows without end."""
        if len(self._frames) < MOST_FRAMES:
            self._frames.append(frame)
        else:
            self.behind = True
        self._wake(came=True)

    def doubt(self) -> None:
        """Something may have been lost: read the journal at the next take."""
        self.behind = True
        self._wake(came=True)

    async def take(self, wait_s: float) -> tuple[Event, ...] | None:
        """Events not taken yet, all there are; None after `wait_s` of silence.

        Raises redis.RedisError when the journal is needed and Redis does not answer.
        """
        if not self._frames and not self.behind and not await self._wait(wait_s):
            return None
        events = self._drain()
        if self.behind and not events:
            return await self.heal()
        return events

    async def heal(self) -> tuple[Event, ...]:
        """Events not taken yet, from the journal. Raises redis.RedisError."""
        self.behind = False  # first: what is lost while we read must raise the doubt again
        try:
            frames = await bus.read_journal(self._redis, self.job, start=self._number)
        except BaseException:
            self.behind = True
            raise
        return self._fresh_of(frames)

    async def _wait(self, wait_s: float) -> bool:
        """Whether something came within `wait_s`. By hand: this runs once a frame, and asyncio's
        timeouts cost more than all the rest of it."""
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        self._patience_s = loop.time() + wait_s
        if self._timer is None or self._timer.when() > self._patience_s:
            self._look_again(loop)
        try:
            return await self._reader
        finally:
            self._reader = None

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """One timer for many waits: what comes in time does not touch it."""
        self.rest()
        self._timer = loop.call_at(self._patience_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._reader is None:
            return
        if loop.time() < self._patience_s:
            self._look_again(loop)
        else:
            self._wake(came=False)

    def rest(self) -> None:
        """Nobody reads any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, *, came: bool) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(came)

    def _drain(self) -> tuple[Event, ...]:
        events: list[Event] = []
        while self._frames:
            frame = self._frames.popleft()
            if frame.number > self._number:
                self._frames.clear()  # the journal has these too
                self.behind = True
                break
            events += self._fresh(frame)
        return tuple(events)

    def _fresh_of(self, frames: Iterable[Frame]) -> tuple[Event, ...]:
        events: list[Event] = []
        for frame in frames:
            if frame.number > self._number:
                log.error("journal.broken", job=self.job, number=frame.number, need=self._number)
                raise Internal("a part of this answer was lost in the queue; ask again")
            events += self._fresh(frame)
        return tuple(events)

    def _fresh(self, frame: Frame) -> tuple[Event, ...]:
        """What of the frame is new: all, a tail where it overlaps, or nothing."""
        events = frame.events[self._number - frame.number :]
        self._number = max(self._number, frame.next_number)
        if events:
            self.known = frame.number
        return events


class Inbox:
    """This process's subscription and its mailboxes."""

    def __init__(self, redis: Redis, api: str) -> None:
        self.channel = keys.replies(api)
        self._redis = redis
        self._mailboxes: dict[str, tuple[Mailbox, ...]] = {}  # mostly one a job
        self._opened = asyncio.Event()
        self._on_open: list[Callable[[], Awaitable[None]]] = []

    def __len__(self) -> int:
        return sum(map(len, self._mailboxes.values()))

    @property
    def is_open(self) -> bool:
        """Whether the subscription has been confirmed at least once."""
        return self._opened.is_set()

    def when_opened(self, call: Callable[[], Awaitable[None]]) -> None:
        """Also `call` each time the subscription is (again) open: Redis is back."""
        self._on_open.append(call)

    async def open(self, job: str) -> Mailbox:
        """A mailbox for a job: of one that is about to be enqueued nothing can be missed from here
        on. A job may have several.

        Raises QueueDown when the subscription does not come up in OPEN_WAIT_S.
        """
        try:
            async with asyncio.timeout(OPEN_WAIT_S):
                await self._opened.wait()
        except TimeoutError:
            raise QueueDown from None
        mailbox = Mailbox(self._redis, job)
        self._mailboxes[job] = (*self._mailboxes.get(job, ()), mailbox)
        return mailbox

    def close(self, mailbox: Mailbox) -> None:
        """Forget it; later frames for it are dropped. Safe to call twice."""
        mailbox.rest()
        left = tuple(one for one in self._mailboxes.pop(mailbox.job, ()) if one is not mailbox)
        if left:
            self._mailboxes[mailbox.job] = left

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while inside. Redis need not be there yet."""
        task = asyncio.create_task(
            bus.listen(
                self._redis, [self.channel], on_message=self._deliver, on_open=self._subscribed
            )
        )
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _subscribed(self) -> None:
        self._opened.set()
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.doubt()
        for call in self._on_open:
            await call()

    def _deliver(self, _channel: bytes, payload: bytes) -> None:
        try:
            frames = codec.decode_frames(payload)
        except msgspec.MsgspecError as error:
            log.error("frames.unreadable", error=str(error), bytes=len(payload))
            return
        for frame in frames:
            for mailbox in self._mailboxes.get(frame.job, ()):
                mailbox.put(frame)
