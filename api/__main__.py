"""`python -m api`: one process that serves TCP and, where asked, a Unix socket.

SIGTERM stops accepting and lets answers end within `drain_timeout_s`; what is still running then is
cut, and its jobs are cancelled. What keeps it from starting is one sentence on stderr.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import structlog
import uvicorn
from redis.asyncio import Redis

from api.app import Application, create_app
from shared import logs, settings
from shared.connection import open_redis
from shared.settings import BadSetting, Settings

log = structlog.get_logger()

BACKLOG = 2048
KEEP_ALIVE_S = 75
SOCKET_MODE = 0o660


class CannotStart(Exception):
    """Why not, in one sentence that says what to do."""


def main() -> None:
    """Serve until a signal says otherwise."""
    try:
        found = settings.read()
        redis = _redis(found)
        sockets = listen(found)
    except (BadSetting, CannotStart) as error:
        sys.exit(f"caravan api: {error}")
    logs.configure(found, process="api")
    app = create_app(found, redis)
    app.litestar.on_shutdown.append(redis.aclose)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # before uvicorn takes over, and after it has drained
    log.info("api.listening", on=[str(_name(one)) for one in sockets])
    try:
        server(found, app).run(sockets=sockets)
    finally:
        if found.unix_socket:
            Path(found.unix_socket).unlink(missing_ok=True)


def server(found: Settings, app: Application) -> uvicorn.Server:
    """uvicorn as we run it."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(found.drain_timeout_s),
        )
    )


def listen(found: Settings) -> list[socket.socket]:
    """The open sockets. Raises CannotStart."""
    sockets = [_tcp(found.host, found.port)]
    if found.unix_socket:
        sockets.append(_unix(Path(found.unix_socket)))
    return sockets


def _redis(found: Settings) -> Redis:
    if not found.redis_url:
        raise CannotStart(
            "CARAVAN_REDIS_URL is not set: name a Redis, or let `caravan serve` start one"
        )
    try:
        return open_redis(found.redis_url)
    except ValueError as error:
        raise CannotStart(f"CARAVAN_REDIS_URL={found.redis_url!r} cannot be: {error}") from None


def _tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CannotStart(
            f"cannot listen on {host}:{port}: {why} (CARAVAN_HOST and CARAVAN_PORT choose another)"
        ) from None


def _unix(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    try:
        if _is_stale(path):
            path.unlink()
        one.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        one.close()
        raise CannotStart(f"cannot listen on CARAVAN_UNIX_SOCKET={path}: {error}") from None
    return one


def _is_stale(path: Path) -> bool:
    """Whether this is a socket that nobody listens on any more; other files are left alone."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) != 0
    return False


def _name(one: socket.socket) -> str:
    name = one.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
