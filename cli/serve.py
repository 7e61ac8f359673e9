"""`caravan serve`: everything on one machine, in the order it lives.

Check, start Redis, workers and api, wait until they answer, show one chat, wait for a signal, stop
in the opposite order. Stopping: the api finishes its streams while workers still work, workers then
drain, Redis goes last. A second signal ends all of it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping

import httpx
import msgspec
from rich.console import Console

from cli import banner, checks
from cli.children import Child, our_python
from cli.client import answers, connect, url_of
from cli.embedded_redis import embedded, wait_until_it_answers
from cli.problems import Problem
from cli.supervisor import Keeper, happens
from shared import settings as variables
from shared.settings import Settings

GRACE_S = 5.0  # beyond what a child allows itself: to close its files and say goodbye
REDIS_STOP_S = 30.0  # it writes its file to the disk
POLL_S = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Modules = Mapping[str, str]
MODULES: Modules = {"api": "api", "worker": "workers"}


class Wish:
    """What the operator wants: `stop` after the first signal, `hurry` after the second."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def listen(self) -> None:
        """Take over the signals of this process; under nohup a hang-up stays ignored."""
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self.heard)

    def heard(self) -> None:
        """One more signal."""
        (self.hurry if self.stop.is_set() else self.stop).set()


class Fleet:
    """All children in tiers; stopped in the opposite order of their start."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._tiers: list[tuple[list[Keeper], float]] = []

    @property
    def keepers(self) -> list[Keeper]:
        """Every child's keeper, in the order of their start."""
        return [keeper for keepers, _ in self._tiers for keeper in keepers]

    async def start(self, *children: Child, stop_within_s: float) -> list[Keeper]:
        """Start one more tier."""
        keepers = [Keeper(child) for child in children]
        self._tiers.append((keepers, stop_within_s))
        for keeper in keepers:
            try:
                await keeper.start()
            except OSError as error:
                raise Problem(f"cannot start {keeper.child.name}: {error}") from error
        return keepers

    async def stop(self) -> None:
        """The last tier first; the next one when it is gone."""
        for keepers, within_s in reversed(self._tiers):
            stops = (keeper.stop(within_s=within_s, hurry=self._wish.hurry) for keeper in keepers)
            await asyncio.gather(*stops)


async def serve(
    settings: Settings,
    environment: dict[str, str],
    *,
    console: Console,
    modules: Modules = MODULES,
) -> None:
    """Run until a signal. Raises Problem for what cannot start; nothing is left behind then."""
    wish = Wish()
    wish.listen()
    settings, environment = settle(settings, environment)
    fleet = Fleet(wish)
    with contextlib.ExitStack() as stack:
        redis = None if settings.redis_url else stack.enter_context(embedded(settings.home))
        opening = asyncio.create_task(
            _open(settings, environment, fleet=fleet, redis=redis, modules=modules, console=console)
        )
        try:
            await _first(opening, wish.stop)
            await wish.stop.wait()
        finally:
            if wish.stop.is_set():
                console.print("Stopping: answers that run may end (once more: stop at once).")
            opening.cancel()
            await asyncio.wait({opening})
            await fleet.stop()


def settle(settings: Settings, environment: dict[str, str]) -> tuple[Settings, dict[str, str]]:
    """Check what can be checked, fix the port if any will do, and let the workers serve what is
    pulled, unless the operator has decided about it."""
    port = checks.free_port(settings.host, settings.port)
    checks.free_socket(settings.unix_socket)
    checks.model_files(settings)
    pool = variables.variable("pool")
    fixed = {variables.variable("port"): str(port), pool: environment.get(pool, "true")}
    return msgspec.structs.replace(settings, port=port), environment | fixed


async def _first(opening: asyncio.Task[None], stop: asyncio.Event) -> None:
    """Wait for the opening or a signal; what went wrong while opening is raised."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if opening.done():
        opening.result()


async def _open(
    settings: Settings,
    environment: dict[str, str],
    *,
    fleet: Fleet,
    redis: Child | None,
    modules: Modules,
    console: Console,
) -> None:
    """Start all tiers, wait until the path is whole, show it."""
    if redis is not None:
        [keeper] = await fleet.start(redis, stop_within_s=REDIS_STOP_S)
        environment = {
            **environment,
            variables.variable("redis_url"): await wait_until_it_answers(keeper, settings.home),
        }
    names = [f"worker-{number}" for number in range(1, settings.workers + 1)]
    within_s = settings.drain_timeout_s + GRACE_S
    workers = [_ours(name, modules["worker"], environment) for name in names]
    await fleet.start(*workers, stop_within_s=within_s)
    await fleet.start(_ours("api", modules["api"], environment), stop_within_s=within_s)
    async with connect(url_of(settings.host, settings.port)) as client:
        await _wait_until_ready(settings, client, fleet=fleet, console=console)
        if settings.workers:
            await banner.first_chat(client, settings, console)
    banner.show(settings, console)


def _ours(name: str, module: str, environment: dict[str, str]) -> Child:
    command, environment = our_python(module, environment)
    return Child(name=name, command=command, environment=environment)


async def _wait_until_ready(
    settings: Settings, client: httpx.AsyncClient, *, fleet: Fleet, console: Console
) -> None:
    """Until the api says that a worker is ready (without workers of ours: until it is up)."""
    path = "/ready" if settings.workers else "/health"
    never = asyncio.Event()
    with console.status(f"Starting; the worker loads {settings.model} …"):
        while not await answers(client, path):
            for keeper in fleet.keepers:
                if keeper.hopeless:
                    raise Problem(f"{keeper.child.name} does not start; it says why above")
            await happens(never, within_s=POLL_S)
