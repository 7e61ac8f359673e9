"""The HTTP client of all remotes: its limits, its patience, and what a status means.

Plain HTTP goes to this host and to hosts named insecure, also when a redirect asks for it.
httpx takes the Authorization header off when a redirect leads to another origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import httpx
import msgspec

from shared.errors import CaravanError
from shared.model_errors import BadReference, ModelNotFound, RemoteDown, Unauthorized
from workers.models.remote.options import RemoteOptions, Retry
from workers.models.remote.sources import is_local
from workers.models.store.untrusted import BadJson, decode

MAX_REDIRECTS = 5
MAX_ANSWER_BYTES = 1 << 20
CONNECT_S = 10.0
T = TypeVar("T")


@asynccontextmanager
async def open_client(options: RemoteOptions) -> AsyncIterator[httpx.AsyncClient]:
    """The client, closed with the block."""

    async def guard(request: httpx.Request) -> None:
        host = request.url.netloc.decode()
        if request.url.scheme == "http" and not allows_plain_http(host, options):
            raise BadReference(f"{host} asks for plain HTTP; allow it as insecure if you trust it")

    async with httpx.AsyncClient(
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        timeout=httpx.Timeout(options.timeout_s, connect=CONNECT_S, pool=None),
        headers={"User-Agent": "caravan", "Accept-Encoding": "identity"},
        event_hooks={"request": [guard]},
    ) as client:
        yield client


def allows_plain_http(host: str, options: RemoteOptions) -> bool:
    """Whether this host (with port) may be spoken to without TLS."""
    return is_local(host) or host in options.insecure or host.partition(":")[0] in options.insecure


async def patiently(retry: Retry, attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives, tried again while the remote is down. RemoteDown when it stays so."""
    failures = 0
    while True:
        try:
            return await attempt()
        except (httpx.RequestError, RemoteDown) as error:
            failures += 1
            if failures >= retry.attempts:
                raise as_down(error) from error
            await asyncio.sleep(retry.wait_s(failures, asked_s=asked_s(error)))


def as_down(error: Exception) -> RemoteDown:
    """A failed exchange in our words."""
    match error:
        case RemoteDown():
            return error
        case httpx.RequestError():
            host = error.request.url.netloc.decode() if error._request else "the remote"
            why = str(error) or type(error).__name__
            return RemoteDown(f"{host} cannot be reached or broke off ({why}); try again")
        case _:
            return RemoteDown(str(error))


def asked_s(error: Exception) -> float:
    """Seconds the remote wants us to wait; 0 if it did not say."""
    return error.retry_after_s if isinstance(error, RemoteDown) else 0.0


async def read_bounded(response: httpx.Response, limit: int = MAX_ANSWER_BYTES) -> bytes:
    """The body of a streamed response. RemoteDown when it is longer than `limit` bytes."""
    raw = b""
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > limit:
            raise RemoteDown(
                f"{response.url.netloc.decode()} sent more than {limit} bytes of {what(response)}"
            )
    return raw


def what(response: httpx.Response) -> str:
    """The request in short, for messages; without its query, which may hold a signature."""
    return f"{response.request.method} {response.url.path}"


async def check(response: httpx.Response, *, name: str) -> None:
    """Return on success; else the error that the status stands for, about the model `name`."""
    if response.status_code < 400:
        return
    raise problem(response, await _reason(response), name=name)


def problem(response: httpx.Response, reason: str, *, name: str) -> CaravanError:
    """The error a failed response stands for. RemoteDown ones are worth another try."""
    host = response.url.netloc.decode()
    match response.status_code:
        case 401 | 403:
            return Unauthorized(
                f"{host} does not let us at {name} ({reason}): it needs a login or another token,"
                " or does not exist",
                param="model",
            )
        case 404 | 410:
            return ModelNotFound(f"model not found: {host} has no {name} ({reason})", param="model")
        case 408 | 429:
            return RemoteDown(
                f"{host} limits us ({reason}); try again later or log in",
                retry_after_s=_retry_after_s(response),
                limited=True,
            )
        case status if status >= 500:
            return RemoteDown(
                f"{host} fails ({reason}); try again later", retry_after_s=_retry_after_s(response)
            )
        case _:
            return BadReference(f"{host} refuses {what(response)}: {reason}")


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    errors: list[_Problem] = []


async def _reason(response: httpx.Response) -> str:
    """Status and, where it is a registry's answer, its code and message."""
    try:
        raw = await read_bounded(response, 64 << 10)
        problems: _Problems = decode(raw, _Problems)
        found = problems.errors
    except (httpx.RequestError, httpx.StreamConsumed, RemoteDown, BadJson):
        found = [_Problem("Error", response.headers.get("X-Error-Message", "")[:300])]
        found = [each for each in found if each.message]
    said = "; ".join(f"{each.code} - {each.message}"[:300] for each in found[:3])
    return f"{response.status_code}: {said}" if said else f"status {response.status_code}"


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
