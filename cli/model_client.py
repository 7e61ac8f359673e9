"""The api's routes about models, as the terminal calls them: plain requests, streams, big files."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from cli.client import CONNECT_TIMEOUT_S, is_loopback, refusal
from cli.problems import Problem

NDJSON_ERROR = "the stream ended before it was done; run it again and it goes on"


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """How far one layer is, in bytes."""

    id: str = ""
    size: int = 0
    current: int = 0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a pull or push."""

    type: str = ""
    message: str = ""
    total: int = 0
    layer: Layer | None = None
    mode: str = ""


class _ShortError(msgspec.Struct, frozen=True):
    error: str


_short_error = msgspec.json.Decoder(_ShortError)
_line = msgspec.json.Decoder(Line)


class Api:
    """The api at a URL. Everything raises Problem, in the api's own words."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, method: str, path: str, *, body: Any = None, **query: str) -> Any:
        """The JSON of a whole answer; None where there is none."""
        content = msgspec.json.encode(body) if body is not None else None
        with self._sent():
            answer = self._client.request(method, path, content=content, params=query or None)
        _check(answer)
        return msgspec.json.decode(answer.content) if answer.content.strip() else None

    def follow(self, path: str, body: Any) -> Iterator[Line]:
        """The lines of a pull or push, up to the one that says it is done."""
        headers = {"Accept": "application/json"}
        content = msgspec.json.encode(body)
        with (
            self._sent(),
            self._client.stream("POST", path, content=content, headers=headers) as answer,
        ):
            _check_stream(answer)
            for text in answer.iter_lines():
                line = _line.decode(html.unescape(text) if text[:1] != "{" else text)
                if line.type == "error":
                    raise Problem(line.message.removeprefix("Error: "))
                yield line
                if line.type == "success":
                    return
        raise Problem(NDJSON_ERROR)

    def download(self, path: str) -> Iterator[bytes]:
        """A big body, piece by piece."""
        with self._sent(), self._client.stream("GET", path) as answer:
            _check_stream(answer)
            yield from answer.iter_bytes(1 << 20)

    def upload(self, path: str, pieces: Iterator[bytes]) -> httpx.Headers:
        """Send a big body; the answer's headers."""
        with self._sent():
            answer = self._client.post(path, content=pieces)
        _check(answer)
        return answer.headers

    def has(self, path: str) -> bool:
        """Whether HEAD `path` is there."""
        with self._sent():
            return self._client.head(path).is_success

    @contextmanager
    def _sent(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            url = self._client.base_url
            raise Problem(f"no answer from {url}: {error}; is `caravan serve` running?") from error


@contextmanager
def open_api(url: str) -> Iterator[Api]:
    """The api at `url`, for as long as the block lasts."""
    with httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        trust_env=not is_loopback(httpx.URL(url).host),
    ) as client:
        yield Api(client)


def path_of(name: str, action: str = "") -> str:
    """The native path of a model, whatever its name has in it."""
    tail = f"/{action}" if action else ""
    return f"/models/{quote(name, safe='/:@')}{tail}"


def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise Problem(_sentence(answer.status_code, answer.content))


def _check_stream(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise Problem(_sentence(answer.status_code, answer.read()))


def _sentence(status: int, body: bytes) -> str:
    """What an error says, in any of the api's shapes."""
    try:
        return _short_error.decode(body).error
    except msgspec.MsgspecError:
        return refusal(status, body)
