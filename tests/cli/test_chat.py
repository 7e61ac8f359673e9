"""Chat over HTTP: pieces as they come, errors in words, a conversation that remembers."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from cli import banner
from cli.chat import Conversation, talk
from cli.client import Message, Refused, answers, connect, stream_chat, text_of, url_of
from shared.settings import Settings
from tests.cli.http_server import Server, http_server, sse

HI = [Message("user", "hi")]


@pytest.fixture
def server() -> Iterator[Server]:
    with http_server() as running:
        yield running


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def conversation(url: str, screen: Console, **more: Any) -> Conversation:
    return Conversation(url, model="m", console=screen, **{"system": "", "options": {}, **more})


def lines(*texts: str | type[BaseException]) -> Callable[[], str]:
    """Input that types these lines, or the key that raises; then Ctrl-D."""
    typed = iter([*texts, EOFError])

    def ask() -> str:
        if isinstance(text := next(typed), str):
            return text
        raise text

    return ask


async def test_pieces_come_as_they_are_sent(server: Server) -> None:
    server.replies = [(200, sse("one ", "two"))]
    async with connect(server.url) as client:
        pieces = [piece async for piece in stream_chat(client, HI, model="m", max_tokens=3)]
    assert pieces == ["one ", "two"]
    [body] = server.asked
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 3,
    }


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((404, json.dumps({"error": {"message": "model 'm' not found"}})), "model 'm' not found"),
        ((502, "<html>"), "the api answered 502"),
        ((200, 'data: {"error":{"message":"the worker crashed"}}\n\n'), "the worker crashed"),
        ((200, "data: <html>\n\n"), "something else than a chat"),
    ],
)
async def test_an_error_is_refused_in_its_own_words(
    server: Server, reply: tuple[int, str], message: str
) -> None:
    server.replies = [reply]
    async with connect(server.url) as client:
        with pytest.raises(Refused, match=message):
            _ = [piece async for piece in stream_chat(client, HI, model="m")]


async def test_nobody_there(server: Server) -> None:
    server.server_close()
    async with connect(server.url) as client:
        assert not await answers(client, "/ready")
        with pytest.raises(Refused, match="no answer from"):
            _ = [piece async for piece in stream_chat(client, HI, model="m")]


async def test_ready_is_a_success_and_nothing_else(server: Server) -> None:
    server.replies = [(503, ""), (200, "")]
    async with connect(server.url) as client:
        assert [await answers(client, "/ready") for _ in range(2)] == [False, True]


def test_lines_that_are_no_data_say_nothing() -> None:
    assert [text_of(line) for line in (": ping", "", "event: x", "data: [DONE]")] == [""] * 4


def test_where_an_api_is_reached() -> None:
    assert url_of("0.0.0.0", 1) == "http://127.0.0.1:1"
    assert url_of("::", 1) == "http://[::1]:1"
    assert url_of("host", 1) == "http://host:1"


def test_the_model_remembers_the_conversation(server: Server) -> None:
    server.replies = [(200, sse("Hello ", "you")), (200, sse("again"))]
    screen = console()
    talk(
        conversation(server.url, screen, system="Be kind."),
        ask=lines("hi", "  ", "more"),
        console=screen,
    )
    assert [message["content"] for message in server.asked[1]["messages"]] == [
        "Be kind.",
        "hi",
        "Hello you",
        "more",
    ]
    assert "Hello you\n" in said(screen)


def test_new_forgets_all_but_the_system_prompt(server: Server) -> None:
    server.replies = [(200, sse("a")), (200, sse("b"))]
    screen = console()
    talk(
        conversation(server.url, screen, system="Be kind."),
        ask=lines("hi", "/new", "ho", "/bye", "never asked"),
        console=screen,
    )
    assert [message["content"] for message in server.asked[1]["messages"]] == ["Be kind.", "ho"]


def test_a_refused_question_is_forgotten_and_the_chat_goes_on(server: Server) -> None:
    server.replies = [(400, json.dumps({"error": {"message": "no"}})), (200, sse("yes"))]
    screen = console()
    talk(conversation(server.url, screen), ask=lines("bad", "good"), console=screen)
    assert [message["content"] for message in server.asked[1]["messages"]] == ["good"]
    assert "no" in said(screen)


def test_ctrl_c_at_the_prompt_leaves_nothing_and_stays(server: Server) -> None:
    server.replies = [(200, sse("yes"))]
    screen = console()
    talk(conversation(server.url, screen), ask=lines(KeyboardInterrupt, "hi"), console=screen)
    assert len(server.asked) == 1


class Interrupted(Console):
    """A terminal whose user presses Ctrl-C when these words appear."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if objects == ("half an ",):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_the_answer_and_keeps_what_came(server: Server) -> None:
    server.replies = [(200, sse("half an ")), (200, sse("whole one"))]
    server.pause.clear()
    screen = Interrupted(file=io.StringIO(), width=200)
    talking = conversation(server.url, screen)
    assert talking.say("hi")
    assert talking.turns[-1] == Message("assistant", "half an ")
    assert "(stopped)" in said(screen)
    server.pause.set()
    assert talking.say("and now?")
    assert talking.turns[-1] == Message("assistant", "whole one")


async def test_the_first_chat_of_serve_is_shown_or_explained(server: Server) -> None:
    server.replies = [(200, sse("A row.")), (400, json.dumps({"error": {"message": "no chat"}}))]
    screen = console()
    async with connect(server.url) as client:
        await banner.first_chat(client, Settings(), screen)
        await banner.first_chat(client, Settings(), screen)
    assert "A row." in said(screen)
    assert "This first chat was refused: no chat" in said(screen)


@pytest.mark.parametrize(
    ("setting", "name"),
    [("smollm2", "ai/smollm2"), ("me/mine:Q4=/a/b.gguf", "me/mine:Q4")],
)
def test_the_model_as_callers_name_it(setting: str, name: str) -> None:
    assert banner.served_name(Settings(model=setting)) == name
