"""Images that a caller names by URL: fetched here, for all dialects, and only from hosts that the
settings name. A server that fetches what a stranger tells it to opens its own network to him.

So: an allow-list of hosts; addresses looked up once, all of them public, and the connection made to
that very address; no redirects, no proxies, no compression; limits on size and time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
from msgspec.structs import replace

from shared.errors import RequestError, Unsupported
from shared.messages import Image, Link, Message, Part
from shared.requests import Chat, Generate, Request, Tokenize
from shared.setting_values import listed
from shared.settings import Settings

MOST_LINKS = 32
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


async def lookup(host: str, port: int) -> list[str]:
    """A host's addresses. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]


class Links:
    """Fetches a request's links, if the settings let it."""

    def __init__(self, settings: Settings, *, lookup: Lookup = lookup) -> None:
        self._hosts = frozenset(host.lower() for host in listed(settings.image_hosts))
        self._private = settings.image_private
        self._timeout_s = settings.image_timeout_s
        self._most_bytes = settings.max_body_bytes
        self._lookup = lookup

    async def fetched(self, request: Request) -> Request:
        """The request with images in place of links. Raises Unsupported where links are off,
        RequestError for those that cannot be had; both name the field."""
        if not isinstance(request, Generate | Tokenize) or not isinstance(request.input, Chat):
            return request
        links = [part for message in request.input.messages for part in _links(message)]
        if not links:
            return request
        images = await self._fetch_all(links)
        messages = tuple(_filled(message, images) for message in request.input.messages)
        return replace(request, input=replace(request.input, messages=messages))

    async def _fetch_all(self, links: Sequence[Link]) -> dict[str, Image]:
        if not self._hosts:
            raise Unsupported(links[0].param, links[0].refusal)
        if len(links) > MOST_LINKS:
            raise RequestError(f"messages: more than {MOST_LINKS} URLs", param="messages")
        found: dict[str, Image] = {}
        left = self._most_bytes
        try:
            async with asyncio.timeout(self._timeout_s):
                for link in links:
                    if link.url not in found:
                        found[link.url] = image = await self._fetch(link, most_bytes=left)
                        left -= len(image.data)
        except TimeoutError:
            raise _failed(link, f"its images took longer than {self._timeout_s:g} s") from None
        return found

    async def _fetch(self, link: Link, *, most_bytes: int) -> Image:
        try:
            url = httpx.URL(link.url)
        except httpx.InvalidURL:
            raise _failed(link, "this is no URL") from None
        request = await self._pinned(link, url)
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
                answer = await client.send(request, stream=True)
                stack.push_async_callback(answer.aclose)
                return await _image(link, answer, most_bytes=most_bytes)
        except httpx.HTTPError as error:
            raise _failed(link, f"{url.host} did not answer: {type(error).__name__}") from error

    async def _pinned(self, link: Link, url: httpx.URL) -> httpx.Request:
        """A request to an address that was checked, for the host that was named."""
        if url.scheme not in PORTS or url.userinfo or url.host.lower() not in self._hosts:
            raise _failed(link, f"{url.host or 'this'} is no host this server fetches from")
        port = url.port or PORTS[url.scheme]
        try:
            addresses = await self._lookup(url.host, port)
        except OSError:
            raise _failed(link, f"{url.host} has no address") from None
        if not addresses or not (self._private or all(map(public, addresses))):
            raise _failed(link, f"{url.host} has an address that is not public")
        return httpx.Request(
            "GET",
            url.copy_with(host=addresses[0]),
            headers={"Host": url.netloc.decode(), "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.host, "timeout": _timeouts(self._timeout_s)},
        )


def public(address: str) -> bool:
    """Whether an address is on the open internet; those that stand for another one are not."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # with a scope: link-local
        return False
    if isinstance(found, ipaddress.IPv6Address) and (
        found.ipv4_mapped or found.sixtofour or found.teredo or found in NAT64
    ):
        return False
    return found.is_global and not found.is_multicast


async def _image(link: Link, answer: httpx.Response, *, most_bytes: int) -> Image:
    if answer.status_code != httpx.codes.OK:
        raise _failed(link, f"{answer.url.path} was answered with {answer.status_code}")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise _failed(link, "it came compressed")
    data = bytearray()
    async for piece in answer.aiter_raw():
        data += piece
        if len(data) > most_bytes:
            raise _failed(link, f"images of more than {most_bytes} bytes")
    if not data:
        raise _failed(link, "an image of no bytes")
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    return Image(data=bytes(data), media_type=kind or "application/octet-stream")


def _timeouts(seconds: float) -> dict[str, Any]:
    return httpx.Timeout(seconds).as_dict()


def _links(message: Message) -> list[Link]:
    return [part for part in message.content if isinstance(part, Link)]


def _filled(message: Message, images: dict[str, Image]) -> Message:
    content: tuple[Part, ...] = tuple(
        images[part.url] if isinstance(part, Link) else part for part in message.content
    )
    return replace(message, content=content)


def _failed(link: Link, why: str) -> RequestError:
    return RequestError(f"{link.param}: {why}", param=link.param)
