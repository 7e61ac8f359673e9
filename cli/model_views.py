"""Models and transfers as the terminal shows them: tables, and bars with speed and time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cli.model_client import Line

PIECE_BYTES = 1 << 20
STEP_S = 0.1  # lines that come in one go say nothing of the speed


def short(name: str) -> str:
    """A ref as people write it: `ai/smollm2:latest` is `smollm2`."""
    return name.removeprefix("docker.io/").removeprefix("ai/").removesuffix(":latest")


def listed(models: list[dict[str, Any]]) -> Table:
    """Of `caravan models ls`."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in ("params", "quant", "arch", "id", "size"):
        table.add_column(heading, no_wrap=True)
    for model in models:
        config = model.get("config") or {}
        facts = [config.get(key, "") for key in ("parameters", "quantization", "architecture")]
        names = "\n".join(short(tag) for tag in model.get("tags", ())) or "-"
        table.add_row(
            names, *facts, model["id"].removeprefix("sha256:")[:12], config.get("size", "")
        )
    return table


def running(runners: list[dict[str, Any]]) -> Table:
    """Of `caravan ps`."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in ("mode", "state", "last used", "keep alive"):
        table.add_column(heading)
    for one in runners:
        state = "loading" if one.get("loading") else "busy" if one.get("in_use") else "idle"
        used = one["last_used"][:19] if state == "idle" and one["last_used"][:4] != "0001" else ""
        keep = one.get("keep_alive", "")
        table.add_row(short(one["model_name"]), one["mode"], state, used, keep)
    return table


def size(count: int) -> str:
    """Bytes, in units of 1000."""
    for unit, limit in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count} B"


class Speed(ProgressColumn):
    """Bytes a second, of the last while; of a transfer that is over, of all of it. Empty while it
    is not known, and of what was there at once."""

    def render(self, task: Task) -> Text:
        """The cell of one bar."""
        speed = task.speed
        if task.finished:
            took_s = task.finished_time or 0.0
            came = task.completed - task.fields.get("before", 0)
            speed = came / took_s if took_s >= STEP_S else None
        return Text(f"{size(int(speed))}/s" if speed else "", style="progress.data.speed")


class Bars:
    """A bar a layer. What an earlier pull had brought already has no part in the speed."""

    def __init__(self, progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._shown_s: dict[str, float] = {}

    def show(self, line: Line) -> None:
        """Take in a line of progress."""
        layer = line.layer
        if layer is None:
            return
        if layer.id not in self._tasks:
            name = layer.id.removeprefix("sha256:")[:12] or line.mode
            self._tasks[layer.id] = self._progress.add_task(
                name, total=layer.size or None, completed=layer.current, before=layer.current
            )
        elif layer.current != layer.size and self._clock() - self._shown_s[layer.id] < STEP_S:
            return
        self._shown_s[layer.id] = self._clock()
        self._progress.update(
            self._tasks[layer.id], completed=layer.current, total=layer.size or None
        )


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """Bars with bytes, speed and time left; nothing but the end where nobody watches."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield progress


def pieces(path: Path, progress: Progress) -> Iterator[bytes]:
    """A file's bytes, with a bar for what was taken."""
    task = progress.add_task(path.name, total=path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
            progress.update(task, advance=len(piece))
