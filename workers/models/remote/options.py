"""What a host decides about pulling and pushing. Read once, passed down whole."""

from __future__ import annotations

import base64
import binascii
import random
from pathlib import Path

import msgspec


class Login(msgspec.Struct, frozen=True):
    """User and password (or access token) for one registry."""

    user: str
    password: str


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a failing remote is asked again. An attempt that brought bytes
    does not count.
    """

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 30.0

    def wait_s(self, failures: int, *, asked_s: float = 0.0) -> float:
        """Seconds before the next attempt, after so many failures (1, 2, …): doubling, with
        jitter, never sooner than the remote asked, never longer than `longest_s`.
        """
        wait = self.first_s * 2.0 ** (failures - 1) * random.uniform(0.75, 1.25)
        return min(self.longest_s, max(wait, asked_s))


class RemoteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`mirrors` are URLs tried before Docker Hub, `insecure` hosts spoken to by plain HTTP beside
    localhost, `logins` by host. `file:` sources may lie below `file_roots` only. An empty
    `hub_endpoint` or `hub_token` leaves the choice to huggingface_hub (HF_ENDPOINT, HF_TOKEN).
    """

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    logins: dict[str, Login] = {}
    file_roots: tuple[Path, ...] = ()
    hub_endpoint: str = ""
    hub_token: str = ""
    max_pulls: int = 2
    max_layers: int = 4
    push_chunk_bytes: int = 64 << 20
    timeout_s: float = 60.0
    retry: Retry = Retry()


class _DockerAuth(msgspec.Struct):
    auth: str = ""


class _DockerConfig(msgspec.Struct):
    auths: dict[str, _DockerAuth] = {}


def docker_logins(path: Path) -> dict[str, Login]:
    """Logins in a docker `config.json`, by host; none if there is no such file.

    Entries kept in a credential helper are not there, so they are not found. ValueError names a
    file that cannot be read as such.
    """
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_DockerConfig)
        return {_host(url): _login(entry.auth) for url, entry in config.auths.items() if entry.auth}
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no docker configuration: {error}") from error


def _host(url: str) -> str:
    host = url.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return "docker.io" if host == "index.docker.io" else host


def _login(encoded: str) -> Login:
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    return Login(user, password)
