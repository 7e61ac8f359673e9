"""What can be known to fail before anything is started: ports, sockets, model files."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from cli.problems import Problem
from shared.setting_values import split_paths
from shared.settings import Settings

GGUF_MAGIC = b"GGUF"


def free_port(host: str, port: int) -> int:
    """`port` if it can be listened on, and some free one for 0; else Problem."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            found: int = probe.getsockname()[1]
            return found
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Problem(
                f"port {port} on {host} is in use: stop what listens there or choose another "
                "with --port or CARAVAN_PORT"
            ) from error
        raise Problem(f"cannot listen on {host} port {port}: {error.strerror or error}") from error


def free_socket(path: str) -> None:
    """Problem if somebody listens on this Unix socket, or if it could not be made."""
    if not path:
        return
    if not Path(path).absolute().parent.is_dir():
        raise Problem(f"cannot listen on {path}: its folder does not exist")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
        raise Problem(f"the Unix socket {path} is in use: choose another with --unix-socket")


def model_files(settings: Settings) -> None:
    """Problem if some model is REF=PATH and PATH, or its projector, is no GGUF file we can read."""
    for _, given in settings.models:
        for path in filter(None, split_paths(given)):
            _model_file(path)


def _model_file(path: str) -> None:
    try:
        with Path(path).expanduser().open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise Problem(f"cannot read the model {path}: {error.strerror or error}") from error
    if magic != GGUF_MAGIC:
        raise Problem(f"the model {path} is not a GGUF file")
