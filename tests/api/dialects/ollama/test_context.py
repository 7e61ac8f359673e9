"""`context` of /api/generate: the conversation goes out as numbers and comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.app import Application
from api.dialects.ollama import parse, types
from api.dialects.ollama.context import packed, unpacked
from shared.errors import RequestError, Unsupported
from shared.messages import Message, Text
from shared.requests import Chat, Generate
from tests.api.caller import calling
from tests.api.fleet import FakeWorker, said


def message(role: Any, text: str) -> Message:
    return Message(role=role, content=(Text(text=text),))


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "Grüße 👋", '"\\\n\0'])
def test_what_is_packed_is_unpacked(text: str) -> None:
    said = (message("system", text), message("user", text), message("assistant", text))
    numbers = packed(said)
    assert unpacked(numbers) == said
    assert max(numbers) < 1 << 24


@pytest.mark.parametrize(
    "numbers", [(1,), (128006, 882, 128007), (-1,), (1 << 24,), (1 << 70,), (0xFFFFFF,)]
)
def test_other_numbers_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match="not made here"):
        unpacked(numbers)


def asked(**more: Any) -> tuple[Message, ...]:
    body = {"model": "smollm2", "prompt": "and?", **more}
    found = parse.generate(msgspec.convert(body, types.Generate), job="j").input
    assert isinstance(found, Chat)
    return found.messages


def test_the_prompt_continues_it() -> None:
    before = (message("system", "be kind"), message("user", "hi"), message("assistant", "hello"))
    context = packed(before)
    assert asked(context=context) == (*before, message("user", "and?"))
    new = (message("system", "be brief"), *before[1:], message("user", "and?"))
    assert asked(context=context, system="be brief") == new
    assert asked(context=[]) == (message("user", "and?"),)


@pytest.mark.parametrize("bare", [{"raw": True}, {"suffix": "x"}])
def test_a_bare_prompt_continues_nothing(bare: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="context"):
        asked(context=[1], **bare)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_brings_it(app: Application, worker: FakeWorker, stream: bool) -> None:
    context: list[int] = []
    async with worker.serving(lambda _: said("hello world")):
        for prompt in ("hi", "and?"):
            body = {"model": "smollm2", "prompt": prompt, "stream": stream, "context": context}
            async with calling(app, "/api/generate", body=body) as call:
                lines = (await call.text()).splitlines()
            assert all(b'"context"' not in line.encode() for line in lines[:-1])
            context = msgspec.json.decode(lines[-1])["context"]
    last = worker.taken[-1]
    assert isinstance(last, Generate)
    assert isinstance(last.input, Chat)
    assert [one.text for one in last.input.messages] == ["hi", "hello world ", "and?"]
    assert unpacked(context)[-1] == message("assistant", "hello world ")


async def test_a_raw_answer_has_none(app: Application, worker: FakeWorker) -> None:
    body = {"model": "smollm2", "prompt": "hi", "raw": True, "stream": False}
    answering = worker.serving(lambda _: said("a"))
    async with answering, calling(app, "/api/generate", body=body) as call:
        assert "context" not in msgspec.json.decode(await call.text())
