"""Images named by a URL: off by default, in every dialect; when on, from named hosts at public
addresses, within size and time, and from nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from api.app import Application
from api.links import Links, public
from shared.errors import RequestError, Unsupported
from shared.messages import Image, Link, Message, Text
from shared.requests import Chat, Generate, Prompt
from shared.settings import Settings
from tests.api.fleet import FakeWorker, said
from tests.model.tiny_vision import png

HOST = "pictures.test"
SETTINGS = Settings(image_hosts=f"other.test, {HOST}", image_private=True)
PNG = png(1)


class Host:
    """A loopback server that answers the bytes it was given and keeps what it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.port = 0
        self.silent = False
        self._served: list[asyncio.Task[Any] | None] = []
        self.looked_up: list[tuple[str, int]] = []

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        """Every host is here."""
        self.looked_up.append((host, port))
        return ["127.0.0.1", "127.0.0.2"]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.append(asyncio.current_task())
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.silent:
            await reader.read()
        else:
            writer.write(self.answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    @classmethod
    @asynccontextmanager
    async def open(cls, answer: bytes) -> AsyncIterator[Host]:
        host = cls(answer)
        async with await asyncio.start_server(host._serve, "127.0.0.1", 0) as server:
            host.port = server.sockets[0].getsockname()[1]
            yield host
            await asyncio.gather(*filter(None, host._served))

    def url(self, path: str = "/a.png") -> str:
        return f"http://{HOST}:{self.port}{path}"


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: image/png", *headers, "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def asking(*urls: str) -> Generate:
    links = [Link(url=url, param=f"field[{n}]", refusal="no") for n, url in enumerate(urls)]
    message = Message(role="user", content=(Text(text="see"), *links))
    return Generate(id="j", model="m", input=Chat(messages=(message,)))


async def fetched(links: Links, *urls: str) -> list[Any]:
    request = await links.fetched(asking(*urls))
    assert isinstance(request, Generate)
    assert isinstance(request.input, Chat)
    return list(request.input.messages[0].content)


async def test_an_image_is_fetched_from_the_address_that_was_checked() -> None:
    async with Host.open(ok(PNG)) as host:
        found = await fetched(Links(SETTINGS, lookup=host.lookup), host.url(), host.url())
    image = Image(data=PNG, media_type="image/png")
    assert found == [Text(text="see"), image, image]
    assert host.looked_up == [(HOST, host.port)]
    assert len(host.asked) == 1
    assert host.asked[0].startswith("GET /a.png HTTP/1.1\r\n")
    assert f"Host: {HOST}:{host.port}" in host.asked[0]
    assert "Accept-Encoding: identity" in host.asked[0]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ok(b"", "Location: http://10.0.0.1/", status="302 Found"), "answered with 302"),
        (ok(b"", status="404 Not Found"), "answered with 404"),
        (ok(PNG, "Content-Encoding: gzip"), "compressed"),
        (ok(b"x" * 2000), "more than 1000 bytes"),
        (ok(b""), "no bytes"),
        (b"nonsense\r\n\r\n", "did not answer"),
        (b"", "did not answer"),
    ],
)
async def test_what_a_host_may_not_answer(answer: bytes, why: str) -> None:
    settings = replace(SETTINGS, max_body_bytes=1000)
    async with Host.open(answer) as host:
        with pytest.raises(RequestError, match=why) as refused:
            await fetched(Links(settings, lookup=host.lookup), host.url())
    assert refused.value.param == "field[0]"
    assert len(host.asked) == 1


async def test_all_images_of_a_request_share_size_and_time() -> None:
    body = b"x" * 600
    settings = replace(SETTINGS, max_body_bytes=1000, image_timeout_s=0.05)
    async with Host.open(ok(body)) as host:
        links = Links(replace(settings, image_timeout_s=10.0), lookup=host.lookup)
        with pytest.raises(RequestError, match="more than 400 bytes"):
            await fetched(links, host.url("/1"), host.url("/2"))
        host.silent = True
        with pytest.raises(RequestError, match=r"took longer than 0.05 s|did not answer"):
            await fetched(Links(settings, lookup=host.lookup), host.url())
    with pytest.raises(RequestError, match="more than 32"):
        await fetched(links, *[host.url()] * 33)


@pytest.mark.parametrize(
    "url",
    [
        "http://elsewhere.test/a.png",
        f"http://{HOST}.elsewhere.test/a.png",
        f"http://{HOST}@elsewhere.test/a.png",
        f"http://user:word@{HOST}/a.png",
        "http://127.0.0.1/a.png",
        "http://[::1]/a.png",
        "http:///a.png",
        "http://[",
        f"ftp://{HOST}/a.png",
    ],
)
async def test_other_hosts_are_not_even_looked_up(url: str) -> None:
    async with Host.open(ok(PNG)) as host:
        with pytest.raises(RequestError, match=r"no host this server|no URL"):
            await fetched(Links(SETTINGS, lookup=host.lookup), url)
    assert not host.looked_up


@pytest.mark.parametrize(
    "addresses", [[], ["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["::ffff:127.0.0.1"]]
)
async def test_every_address_must_be_public(addresses: list[str]) -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return addresses

    links = Links(replace(SETTINGS, image_private=False), lookup=lookup)
    with pytest.raises(RequestError, match="not public"):
        await fetched(links, f"https://{HOST}/a.png")


async def test_a_host_without_address() -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(RequestError, match="has no address"):
        await fetched(Links(SETTINGS, lookup=lookup), f"https://{HOST}/a.png")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        *[
            (address, False)
            for address in (
                "0.0.0.0", "10.1.2.3", "127.0.0.1", "169.254.169.254", "172.16.0.1",
                "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::", "::1",
                "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1",
                "64:ff9b::a00:1", "2002:a00:1::", "2001:0:a00:1::", "no address",
            )
        ],
    ],
)  # fmt: skip
def test_what_is_public(address: str, expected: bool) -> None:
    assert public(address) == expected


async def test_requests_without_links_are_left_alone() -> None:
    links = Links(Settings())
    for request in (asking(), Generate(id="j", model="m", input=Prompt(text="hi"))):
        assert await links.fetched(request) is request
    with pytest.raises(Unsupported, match="no") as refused:
        await links.fetched(asking("http://x/y.png"))
    assert refused.value.param == "field[0]"


URL = "https://x/y.png"
IMAGE_URL = {"type": "image_url", "image_url": {"url": URL}}
OF_URL = {"type": "image", "source": {"type": "url", "url": URL}}
EVERYWHERE: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [IMAGE_URL]}]}, "fetches"),
    ("/v1/responses", {"input": [{"role": "user", "content": [IMAGE_URL]}]}, "fetches"),
    (
        "/v1/messages",
        {"messages": [{"role": "user", "content": [OF_URL]}], "max_tokens": 9},
        "no images are fetched",
    ),
    ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": [OF_URL]}]}, "fetched"),
    (
        "/api/chat",
        {"messages": [{"role": "user", "content": "a", "images": [URL]}]},
        "no images are fetched",
    ),
    ("/api/generate", {"prompt": "a", "images": [URL]}, "no images are fetched"),
    (
        "/engines/llama.cpp/v1/chat/completions",
        {"messages": [{"role": "user", "content": [IMAGE_URL]}]},
        "fetches",
    ),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body", "why"), EVERYWHERE, ids=lambda it: str(it)[:24])
async def test_links_are_off_in_every_dialect(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], why: str, stream: bool
) -> None:
    more = {} if path.endswith("count_tokens") else {"stream": stream}
    answer = await client.post(path, json={"model": "smollm2", **body, **more})
    assert answer.status_code == 400, answer.text
    assert why in answer.text


async def test_a_worker_gets_the_image_itself(
    app: Application, client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with Host.open(ok(PNG)) as host, worker.serving(lambda _: said("a cat")):
        app.service.links = Links(SETTINGS, lookup=host.lookup)
        part = {"type": "image_url", "image_url": {"url": host.url()}}
        body = {"model": "smollm2", "messages": [{"role": "user", "content": [part]}]}
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    taken = worker.taken[0]
    assert isinstance(taken, Generate)
    assert isinstance(taken.input, Chat)
    assert taken.input.messages[0].content == (Image(data=PNG, media_type="image/png"),)
