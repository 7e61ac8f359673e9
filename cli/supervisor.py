"""Keep children running: a child that dies is started again, later and later while it keeps dying.

Knows nothing of Redis, api or workers; cli/serve.py says what to run and in which order to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from cli.children import Child, end_group, exit_words, start

log = structlog.get_logger()

FIRST_DELAY_S = 0.1
MOST_DELAY_S = 10.0
STEADY_S = 30.0  # a child that lived this long was well: the next delay is the first again
HOPELESS_DEATHS = 3


class Backoff:
    """How long to wait before the next start. Pure: told how long the last life was."""

    def __init__(self) -> None:
        self._next_s = FIRST_DELAY_S

    def delay_s(self, *, lived_s: float) -> float:
        """Seconds to wait after a life of `lived_s` seconds."""
        if lived_s >= STEADY_S:
            self._next_s = FIRST_DELAY_S
        delay_s = self._next_s
        self._next_s = min(2 * delay_s, MOST_DELAY_S)
        return delay_s


class Keeper:
    """One child, kept running from `start` to `stop`."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.deaths: list[int] = []
        self._backoff = Backoff()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the life that runs now, None between two."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process else None

    @property
    def hopeless(self) -> bool:
        """Whether it seems unable to start: it said so (exit status), or it crashed repeatedly."""
        return any(code > 0 for code in self.deaths) or len(self.deaths) >= HOPELESS_DEATHS

    async def start(self) -> None:
        """Start it once, then keep it running. Raises OSError if the program is not there."""
        self._process = await start(self.child)
        self._task = asyncio.create_task(self._keep(self._process))

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            log.info("child.started", child=self.child.name, pid=process.pid)
            code = await process.wait()
            end_group(process.pid)
            if self._stopping.is_set():
                return
            self.deaths.append(code)
            fresh = await self._again(exit_words(code), lived_s=time.monotonic() - started)
            if fresh is None:
                return
            process = self._process = fresh
        with contextlib.suppress(ProcessLookupError):
            process.terminate()  # told to stop while this one was being started
        await process.wait()

    async def _again(self, why: str, *, lived_s: float) -> asyncio.subprocess.Process | None:
        """The next life, after a pause; None if told to stop meanwhile."""
        while True:
            delay_s = self._backoff.delay_s(lived_s=lived_s)
            log.warning("child.died", child=self.child.name, why=why, restart_in_s=delay_s)
            if await happens(self._stopping, within_s=delay_s):
                return None
            try:
                return await start(self.child)
            except OSError as error:
                why, lived_s = str(error), 0.0

    async def stop(self, *, within_s: float, hurry: asyncio.Event) -> None:
        """SIGTERM, then SIGKILL after `within_s` seconds or as soon as `hurry` is set."""
        self._stopping.set()
        if self._task is None or self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        if not await _ended(self._task, within_s=within_s, hurry=hurry):
            log.warning("child.killed", child=self.child.name)
            self.kill()
        await self._task
        log.info("child.stopped", child=self.child.name)

    def kill(self) -> None:
        """End it and its process group at once."""
        self._stopping.set()
        if self.pid is not None:
            end_group(self.pid)


async def happens(event: asyncio.Event, *, within_s: float) -> bool:
    """Whether `event` is set before `within_s` seconds have passed."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within_s)
    return event.is_set()


async def _ended(task: asyncio.Task[None], *, within_s: float, hurry: asyncio.Event) -> bool:
    """Whether `task` is done before the time is up and before anybody is in a hurry."""
    impatient = asyncio.create_task(hurry.wait())
    try:
        await asyncio.wait({task, impatient}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        impatient.cancel()
    return task.done()
