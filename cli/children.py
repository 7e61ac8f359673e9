"""One child process: how it is started, how it is told to end, how it ends when we are gone.

A child leads a session of its own, so a Ctrl-C in the terminal reaches only the supervisor.
Whatever it starts is in its process group, and the group is ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

import shared

PR_SET_PDEATHSIG = 1


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. `orphan_signal` is what it gets if its supervisor dies (on Linux)."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] | None = None
    orphan_signal: signal.Signals = signal.SIGKILL
    pass_fds: tuple[int, ...] = ()


def our_python(
    module: str, environment: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Command line and environment of `python -m module` for one of our own modules, wherever
    the operator stands: a folder `api` of theirs must not be taken for ours."""
    ours = str(Path(shared.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (ours, environment.get("PYTHONPATH"))))
    return (sys.executable, "-P", "-m", module), {**environment, "PYTHONPATH": path}


async def start(child: Child) -> asyncio.subprocess.Process:
    """Start it, with our stderr and stdout. Raises OSError when the program is not there."""
    return await asyncio.create_subprocess_exec(
        *child.command,
        env=child.environment,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_parent(child.orphan_signal),
        pass_fds=child.pass_fds,
    )


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a fresh child does so that the kernel signals it when the thread that made it ends.

    None where there is no such call. Everything is looked up before the fork: after it, only the
    system calls themselves are safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), number)

    return ask


def end_group(pid: int) -> None:
    """SIGKILL whatever is left of the child's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def exit_words(code: int) -> str:
    """`exit status 1`, or `signal SIGKILL` for the negative codes of subprocess."""
    if code >= 0:
        return f"exit status {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"
