"""Children are started again, later and later; stopping is polite, then firm."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cli.children import Child, exit_words, our_python
from cli.supervisor import FIRST_DELAY_S, MOST_DELAY_S, STEADY_S, Backoff, Keeper
from tests.cli.processes import PARTS, ROOT, alive, until

NEVER = 3600.0
SLEEP = "import time; time.sleep(3600)"
DEAF = (
    "import signal, pathlib, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)"
)


def python(code: str, *arguments: str) -> Child:
    return Child(name="child", command=(sys.executable, "-c", code, *arguments))


@pytest.fixture
async def keep() -> AsyncIterator[Callable[[Child], Keeper]]:
    keepers: list[Keeper] = []

    def make(child: Child) -> Keeper:
        keepers.append(Keeper(child))
        return keepers[-1]

    yield make
    for keeper in keepers:
        keeper.kill()
        await keeper.stop(within_s=1, hurry=asyncio.Event())


async def eventually(condition: Callable[[], object], *, what: str) -> None:
    await asyncio.to_thread(until, condition, what=what)


def test_delays_double_up_to_the_most_and_start_again_after_a_steady_life() -> None:
    backoff = Backoff()
    delays = [backoff.delay_s(lived_s=0) for _ in range(9)]
    assert delays[:4] == [FIRST_DELAY_S, 0.2, 0.4, 0.8]
    assert delays[-1] == MOST_DELAY_S
    assert backoff.delay_s(lived_s=STEADY_S) == FIRST_DELAY_S


async def test_a_killed_child_is_started_again(keep: Callable[[Child], Keeper]) -> None:
    keeper = keep(python(SLEEP))
    await keeper.start()
    first = keeper.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: keeper.pid not in (None, first), what="a second life")
    assert keeper.deaths == [-signal.SIGKILL]
    assert not keeper.hopeless


async def test_a_child_that_says_no_is_hopeless(keep: Callable[[Child], Keeper]) -> None:
    keeper = keep(python("raise SystemExit(3)"))
    await keeper.start()
    await eventually(lambda: keeper.deaths, what="its end")
    assert keeper.deaths[0] == 3
    assert keeper.hopeless


async def test_stop_is_polite_first(keep: Callable[[Child], Keeper], tmp_path: Path) -> None:
    sign = tmp_path / "said goodbye"
    code = (
        "import signal, pathlib, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM});"
        "pathlib.Path(sys.argv[1]).touch(); signal.sigwait({signal.SIGTERM});"
        "pathlib.Path(sys.argv[1]).write_text('x')"
    )
    keeper = keep(python(code, str(sign)))
    await keeper.start()
    await eventually(sign.exists, what="the child")
    await keeper.stop(within_s=NEVER, hurry=asyncio.Event())
    assert sign.read_text() == "x"
    assert keeper.pid is None


@pytest.mark.parametrize(("within_s", "in_a_hurry"), [(0.0, False), (NEVER, True)])
async def test_a_deaf_child_is_killed_when_the_time_is_up_or_short(
    keep: Callable[[Child], Keeper], tmp_path: Path, within_s: float, in_a_hurry: bool
) -> None:
    keeper = keep(python(DEAF, str(tmp_path / "up")))
    await keeper.start()
    await eventually((tmp_path / "up").exists, what="the child")
    pid, hurry = keeper.pid, asyncio.Event()
    assert pid
    if in_a_hurry:
        hurry.set()
    await keeper.stop(within_s=within_s, hurry=hurry)
    assert not alive(pid)


async def test_stop_during_a_pause_starts_nothing(keep: Callable[[Child], Keeper]) -> None:
    keeper = keep(python("raise SystemExit(1)"))
    await keeper.start()
    await eventually(lambda: len(keeper.deaths) >= 2, what="two deaths")
    await keeper.stop(within_s=NEVER, hurry=asyncio.Event())
    assert keeper.pid is None


async def test_what_a_child_started_ends_with_it(
    keep: Callable[[Child], Keeper], tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys, time;"
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
        "f = pathlib.Path(sys.argv[1]); t = f.with_suffix('.part');"
        "t.write_text(str(p.pid)); t.rename(f); time.sleep(3600)"
    )
    keeper = keep(python(code, str(note)))
    await keeper.start()
    await eventually(note.exists, what="the grandchild")
    await keeper.stop(within_s=NEVER, hurry=asyncio.Event())
    await eventually(lambda: not alive(int(note.read_text())), what="the grandchild's end")


async def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        await Keeper(Child(name="none", command=("/no/such/program",))).start()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent death signal")
def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = subprocess.Popen(
        [sys.executable, str(PARTS / "keep_one.py"), str(note)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until(note.exists, what="the child")
        child = int(note.read_text())
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(child), what="the child's end")


def test_our_modules_are_found_before_the_operators_folder() -> None:
    command, environment = our_python("api", {"PYTHONPATH": "/theirs", "A": "1"})
    assert command == (sys.executable, "-P", "-m", "api")
    assert environment == {"PYTHONPATH": f"{ROOT}{os.pathsep}/theirs", "A": "1"}


def test_exit_codes_in_words() -> None:
    assert exit_words(2) == "exit status 2"
    assert exit_words(-9) == "signal SIGKILL"
    assert exit_words(-250) == "signal 250"
