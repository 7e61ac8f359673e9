"""Ollama's lines: the exact bytes, the same at every cut, and what they amount to."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from struct import pack
from typing import Any

import msgspec
import ollama
import pytest

from api.dialects.ollama import render
from shared.errors import Unavailable
from shared.events import Event, Finished, TextDelta, ToolCallDelta, Usage, Vectors
from tests.api.dialects.scripts import (
    GOOD,
    PLAIN,
    SCRIPTS,
    completed,
    ended,
    every_batching,
    every_cut,
    logprob,
)
from tests.golden import golden

NS = 10**9
BEGAN_NS = 1742816981 * NS
SHAPES: tuple[render.Shape, ...] = ("chat", "generate")
CASES = [
    (shape, name) for shape in SHAPES for name in SCRIPTS if (shape, name) != ("generate", "tools")
]
CLOCKED = {"created_at"}


def pen(shape: render.Shape = "chat") -> render.Pen:
    """A pen whose clock goes a quarter of a second, and a nanosecond, a line."""
    times = itertools.count(BEGAN_NS, NS // 4 + 1)
    return render.Pen(model="smollm2", shape=shape, now_ns=lambda: next(times))


def rendered(batches: Iterable[Sequence[Event]], shape: render.Shape = "chat") -> bytes:
    out = render.Stream(pen(shape))
    return b"".join(out.feed(batch) for batch in batches) + out.flush()


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def accumulated(data: bytes) -> dict[str, Any]:
    """What a client that adds the pieces up has in the end."""
    *pieces, last = lines(data)
    whole = {key: value for key, value in last.items() if key not in CLOCKED}
    messages = [piece["message"] for piece in pieces]
    whole["message"] = {
        "role": "assistant",
        "content": "".join(message["content"] for message in messages),
        "thinking": "".join(message.get("thinking", "") for message in messages),
        "tool_calls": [call for message in messages for call in message.get("tool_calls", ())],
    }
    return whole


def blocking(events: Sequence[Event]) -> dict[str, Any]:
    whole = json.loads(render.frame(pen().whole(completed(events))))
    empty = {"thinking": "", "tool_calls": []}
    return {k: v for k, v in whole.items() if k not in CLOCKED} | {
        "message": empty | whole["message"]
    }


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_a_stream_is_these_bytes(shape: render.Shape, name: str) -> None:
    assert rendered([SCRIPTS[name]], shape) == golden(f"ollama/{shape}_{name}.ndjson")


@pytest.mark.parametrize(("shape", "name"), [case for case in CASES if case[1] in GOOD])
def test_a_blocking_answer_is_these_bytes(shape: render.Shape, name: str) -> None:
    answer = msgspec.json.encode(pen(shape).whole(completed(SCRIPTS[name])))
    assert msgspec.json.format(answer) + b"\n" == golden(f"ollama/{shape}_{name}.json")


@pytest.mark.parametrize("name", SCRIPTS)
def test_batches_do_not_matter(name: str) -> None:
    wanted = rendered([SCRIPTS[name]])
    for batches in every_batching(SCRIPTS[name]):
        assert rendered(batches) == wanted


@pytest.mark.parametrize("name", GOOD)
def test_the_lines_add_up_to_the_blocking_answer_at_every_cut(name: str) -> None:
    wanted = blocking(SCRIPTS[name])
    for events in every_cut(SCRIPTS[name]):
        assert accumulated(rendered([events])) == wanted


@pytest.mark.parametrize(("shape", "name"), [case for case in CASES if case[1] in GOOD])
def test_the_sdk_reads_every_line(shape: render.Shape, name: str) -> None:
    kind = ollama.ChatResponse if shape == "chat" else ollama.GenerateResponse
    responses = [kind(**line) for line in lines(rendered([SCRIPTS[name]], shape))]
    assert [response.done for response in responses[:-1]] == [False] * (len(responses) - 1)
    last = responses[-1]
    assert last.done
    assert last.prompt_eval_count == 9
    assert last.total_duration == 34_250_000
    assert last.load_duration == 3_750_000
    assert (last.prompt_eval_duration, last.eval_duration) == (10_000_000, 20_500_000)


def test_a_call_is_sent_whole_and_once() -> None:
    out = render.Stream(pen())
    assert out.feed([ToolCallDelta(index=0, id="a", name="f", arguments='{"x"')]) == b""
    assert out.feed([ToolCallDelta(index=0, arguments=": 1}")]) == b""
    first, last = lines(out.feed([ended()]))
    (call,) = first["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "f", "arguments": {"x": 1}}
    assert "tool_calls" not in last["message"]


def test_logprobs_go_with_their_text_and_carry_the_bytes() -> None:
    events = [TextDelta(text="é", logprobs=(logprob(b"\xc3"), logprob(b"\xa9"))), ended()]
    streamed = lines(rendered([events]))[0]["logprobs"]
    assert streamed == json.loads(render.frame(pen().whole(completed(events))))["logprobs"]
    assert streamed[0] == {
        "token": "\ufffd",
        "logprob": -0.5,
        "bytes": [195],
        "top_logprobs": [
            {"token": "\ufffd", "logprob": -0.5, "bytes": [195]},
            {"token": "\ufffd", "logprob": -2.5, "bytes": [255]},
        ],
    }


def test_logprobs_of_a_call_are_not_lost() -> None:
    call = ToolCallDelta(index=0, id="a", name="f", arguments="{}", logprobs=(logprob(b"{}"),))
    first, _ = lines(rendered([[call, ended()]]))
    assert first["logprobs"][0]["token"] == "{}"


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    out = render.Stream(pen())
    out.feed(PLAIN[:3])
    assert "error" in lines(out.flush())[0]


def test_a_cancelled_answer_is_no_answer() -> None:
    with pytest.raises(Unavailable):
        pen().whole(completed(SCRIPTS["cancelled"]))


def test_vectors() -> None:
    data = pack("<4f", 0.5, -1.0, 2.0, 0.25)
    done = completed(
        [
            Vectors(data=data, width=2),
            Finished(usage=Usage(prompt_tokens=3), timings=ended().timings),
        ]
    )
    answer = render.embedded(done, model="m")
    assert answer.embeddings == ((0.5, -1.0), (2.0, 0.25))
    assert (answer.prompt_eval_count, answer.load_duration) == (3, 3_750_000)


def test_time_has_nine_digits() -> None:
    assert render.stamp(BEGAN_NS + 7) == "2025-03-24T11:49:41.000000007Z"
