"""Talking to the api over HTTP: is it ready, and a chat whose answer comes piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from ipaddress import ip_address
from typing import Any

import httpx
import msgspec

CHAT = "/v1/chat/completions"
CONNECT_TIMEOUT_S = 5.0


class Refused(Exception):
    """The api answered with an error, or not at all; the message is for people."""


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: str
    content: str


class Delta(msgspec.Struct, frozen=True):
    """The new part of an answer."""

    content: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One choice of a chunk."""

    delta: Delta = Delta()


class Fault(msgspec.Struct, frozen=True):
    """What went wrong, in the api's words."""

    message: str = "unknown error"


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream, or the body of an error."""

    choices: tuple[Choice, ...] = ()
    error: Fault | None = None


_decode_chunk = msgspec.json.Decoder(Chunk).decode


def url_of(host: str, port: int) -> str:
    """The URL at which an api that listens on `host` is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def connect(url: str) -> httpx.AsyncClient:
    """A client of the api at `url`. Answers may take long; a proxy never stands before loopback."""
    return httpx.AsyncClient(
        base_url=url,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        trust_env=not is_loopback(httpx.URL(url).host),
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    """Whether GET `path` answers 2xx now."""
    try:
        return (await client.get(path)).is_success
    except httpx.HTTPError:
        return False


async def stream_chat(
    client: httpx.AsyncClient, messages: Sequence[Message], *, model: str, **options: Any
) -> AsyncGenerator[str, None]:
    """Pieces of the answer's text as they come. Raises Refused."""
    body = {"model": model, "messages": list(messages), "stream": True, **options}
    headers = {"Content-Type": "application/json"}
    try:
        async with client.stream(
            "POST", CHAT, content=msgspec.json.encode(body), headers=headers
        ) as response:
            if not response.is_success:
                raise Refused(refusal(response.status_code, await response.aread()))
            async for line in response.aiter_lines():
                if text := text_of(line):
                    yield text
    except httpx.HTTPError as error:
        raise Refused(f"no answer from {client.base_url}: {error}") from error


def refusal(status: int, body: bytes) -> str:
    """The message in an error's body, or just the status."""
    try:
        fault = _decode_chunk(body).error
    except msgspec.MsgspecError:
        fault = None
    return fault.message if fault else f"the api answered {status}"


def text_of(line: str) -> str:
    """The text in one line of an SSE stream; empty for comments, blanks and the end."""
    if not line.startswith("data:"):
        return ""
    data = line.removeprefix("data:").strip()
    if data == "[DONE]":
        return ""
    try:
        chunk = _decode_chunk(data)
    except msgspec.MsgspecError as error:
        raise Refused(f"the api sent something else than a chat: {data[:80]}") from error
    if chunk.error:
        raise Refused(chunk.error.message)
    return "".join(choice.delta.content or "" for choice in chunk.choices)
