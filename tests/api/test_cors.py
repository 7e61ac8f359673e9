"""Which pages may call, and what a browser is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

from api.app import create_app
from api.cors import Origins
from shared.settings import BadSetting, Settings, read
from tests.api.fleet import FakeWorker

PAGE = "https://chat.example.org"


@pytest.mark.parametrize(
    ("configured", "origin", "welcome"),
    [
        ("", "http://localhost", True),
        ("", "http://localhost:3000", True),
        ("", "https://127.0.0.1:8443", True),
        ("", "http://[::1]:5173", True),
        ("", "HTTP://LocalHost:3000", True),
        ("", PAGE, False),
        ("", "null", False),
        ("", "http://localhost.evil.org", False),
        ("", "http://localhost:3000.evil.org", False),
        ("", "http://evil.org/http://localhost", False),
        (PAGE, PAGE, True),
        (PAGE, "http://chat.example.org", False),
        (PAGE, f"{PAGE}:444", False),
        (f"http://a.b, {PAGE}", PAGE, True),
        ("https://*.example.org", PAGE, True),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://evil.org/.example.org", False),
        ("http://host:*", "http://host:81", True),
        ("http://host:*", "http://host", False),
        ("null", "null", True),
        ("*", "https://anything", True),
        (f"{PAGE},*", "https://anything", True),
    ],
)
def test_patterns(configured: str, origin: str, welcome: bool) -> None:
    assert (origin in Origins(configured)) == welcome


@pytest.mark.parametrize("value", ["example.org", "http://a.b/path", "http://a b", "*, nonsense"])
def test_a_pattern_that_cannot_match_stops_the_start(value: str) -> None:
    with pytest.raises(BadSetting, match="CARAVAN_ORIGINS"):
        read({"CARAVAN_ORIGINS": value})


@pytest.mark.parametrize("value", ["", "*", PAGE, f"null, {PAGE} ,http://*:80", "app://x"])
def test_patterns_are_read(value: str) -> None:
    assert read({"CARAVAN_ORIGINS": value}).origins == value


@pytest.fixture
async def open_client(
    fake_redis: ArqRedis, settings: Settings, worker: FakeWorker
) -> AsyncIterator[httpx.AsyncClient]:
    """A server that one page of another machine may call."""
    app = create_app(msgspec.structs.replace(settings, origins=PAGE), fake_redis)
    async with app.service.running():
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            yield client


async def test_a_welcome_page_is_told_so(open_client: httpx.AsyncClient) -> None:
    for origin in (PAGE, "http://localhost:3000"):
        answer = await open_client.get("/v1/models", headers={"origin": origin})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"


async def test_a_preflight_is_answered_on_any_path(open_client: httpx.AsyncClient) -> None:
    asked = {"origin": PAGE, "access-control-request-headers": "authorization, x-y"}
    for path in ("/", "/v1/chat/completions", "/nowhere"):
        answer = await open_client.options(path, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-headers"] == "authorization, x-y"
        assert answer.headers["access-control-allow-credentials"] == "true"
    bare = await open_client.options("/v1/models", headers={"origin": PAGE})
    assert bare.headers["access-control-allow-headers"] == "*"


async def test_a_foreign_page_is_refused(open_client: httpx.AsyncClient) -> None:
    foreign = {"origin": "https://evil.org"}
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = await open_client.request(method, "/v1/models", headers=foreign)
        assert (answer.status_code, answer.text) == (403, "Origin not allowed\n")
        assert "access-control-allow-origin" not in answer.headers
    assert (await open_client.get("/health", headers=foreign)).status_code == 200


async def test_who_is_no_browser_hears_nothing_of_it(open_client: httpx.AsyncClient) -> None:
    answer = await open_client.get("/v1/models")
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
