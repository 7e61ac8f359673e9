"""`caravan status`: workers, models, queues and speed, read from Redis.

From Redis and not from the api, so that it also tells what is wrong when no api runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from cli.problems import Problem
from shared import presence, refs
from shared.connection import open_redis
from shared.presence import LoadedModel, WorkerCard
from shared.queue import Queue


class QueueDepth(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one model: waiting in each lane, and running."""

    model: str
    interactive: int
    batch: int
    running: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the command shows. `taken_ms` in Unix milliseconds."""

    taken_ms: int
    workers: tuple[WorkerCard, ...]
    queues: tuple[QueueDepth, ...]


async def take(redis: Redis) -> Snapshot:
    """What Redis says now: every worker's card, and a queue for each model of the catalog."""
    cards = tuple(card for card, _ in await presence.workers(redis))
    models = {*await presence.catalog(redis), *(one.model for card in cards for one in card.models)}
    queue = Queue(redis)
    depths = [QueueDepth(model=name, **await queue.depths(name)) for name in sorted(models)]
    return Snapshot(taken_ms=time.time_ns() // 1_000_000, workers=cards, queues=tuple(depths))


def render(snapshot: Snapshot) -> RenderableType:
    """Two tables, or a sentence in the place of an empty one."""
    workers = workers_table(snapshot) if snapshot.workers else "No worker is running."
    queues = queues_table(snapshot) if snapshot.queues else "The catalog is empty: no model yet."
    return Group(workers, queues)


def workers_table(snapshot: Snapshot) -> Table:
    """A row for each model of each worker; a worker without models has a row too."""
    table = new_table("Workers", ("worker", "device", "up", "model", "state"))
    for heading in ("slots", "kv", "waiting", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for card in snapshot.workers:
        up = duration((snapshot.taken_ms - card.started_ms) / 1000)
        start = [card.id, card.device, up]
        if not card.models:
            table.add_row(*start, "-", "draining" if card.draining else "idle")
        for one in card.models:
            table.add_row(
                *start,
                short(one.model),
                "draining" if card.draining else state_of(one),
                f"{one.slots_busy}/{one.slots}",
                f"{one.cells_used / one.cells:.0%}" if one.cells else "-",
                str(one.waiting),
                f"{one.tokens_per_s:.1f}",
            )
    return table


def state_of(model: LoadedModel) -> str:
    """`ready`, `unloading`, `loading 42 %`."""
    return f"loading {model.percent} %" if model.state == "loading" else model.state


def queues_table(snapshot: Snapshot) -> Table:
    """A row for each model: what waits, what runs, how fast all its workers are together."""
    table = new_table("Queues", ("model",))
    for heading in ("interactive", "batch", "running", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for queue in snapshot.queues:
        table.add_row(
            short(queue.model),
            str(queue.interactive),
            str(queue.batch),
            str(queue.running),
            f"{speed(snapshot, queue.model):.1f}",
        )
    return table


def new_table(title: str, headings: tuple[str, ...]) -> Table:
    """One that fits a terminal of 80 columns: no frame, long names go on in the next line."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def short(ref: str) -> str:
    """A model's name without the tag everybody means."""
    return ref.removesuffix(f":{refs.DEFAULT_TAG}")


def speed(snapshot: Snapshot, model: str) -> float:
    """Tokens per second of one model, over all workers."""
    loaded = (one for card in snapshot.workers for one in card.models)
    return sum(one.tokens_per_s for one in loaded if one.model == model)


def duration(seconds: float) -> str:
    """`42 s`, `3 min`, `5 h`, `2 d`: one unit is enough to know."""
    for length_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length_s:
            return f"{int(seconds // length_s)} {unit}"
    return f"{int(max(0, seconds))} s"


async def show(
    url: str, console: Console, *, every_s: float | None = None, as_json: bool = False
) -> None:
    """Print once, or for ever each `every_s` seconds. Raises Problem if Redis does not answer."""
    redis = open_redis(url)
    try:
        snapshot = await take(redis)
        if as_json:
            console.print(msgspec.json.encode(snapshot).decode(), markup=False, soft_wrap=True)
        elif every_s is None:
            console.print(render(snapshot))
        else:
            await _watch(redis, console, every_s=every_s)
    except (RedisError, OSError) as error:
        raise Problem(
            f"Redis does not answer at {url} ({error}): is `caravan serve` running, is "
            "CARAVAN_REDIS_URL right?"
        ) from error
    finally:
        await redis.aclose()


async def _watch(redis: Redis, console: Console, *, every_s: float) -> None:
    with Live(console=console, auto_refresh=False) as live, contextlib.suppress(KeyboardInterrupt):
        while True:
            live.update(render(await take(redis)), refresh=True)
            await asyncio.sleep(every_s)
