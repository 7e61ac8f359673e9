"""Anthropic's stream: the exact bytes, the same at every cut, and what they amount to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from api.dialects.anthropic import answers, render
from shared.errors import Unavailable
from shared.events import Event, Finished, ReasoningDelta, TextDelta, Usage
from tests.api.dialects.scripts import (
    GOOD,
    PLAIN,
    SCRIPTS,
    TOOLS,
    completed,
    every_batching,
    every_cut,
)
from tests.golden import golden

as_event = TypeAdapter(RawMessageStreamEvent).validate_python


def stream(**more: bool) -> render.Stream:
    return render.Stream(id="job_1", model="smollm2", **more)


def rendered(batches: Iterable[Sequence[Event]]) -> bytes:
    out = stream()
    return b"".join(out.feed(batch) for batch in batches) + out.flush()


def accumulated(data: bytes) -> dict[str, Any]:
    """The message the official client makes of a stream."""
    snapshot, buffers = None, {}
    for lines in data.decode().strip().split("\n\n"):
        name, body = lines.split("\n")
        event = json.loads(body.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        snapshot = accumulate_event(
            event=as_event(event), current_snapshot=snapshot, json_bufs=buffers
        )
    assert snapshot is not None
    return snapshot.model_dump(exclude_none=True)


def blocking(events: Sequence[Event], **more: bool) -> dict[str, Any]:
    message = render.message(completed(events), model="smollm2", **more)
    said = json.loads(msgspec.json.encode(message))
    return {name: value for name, value in said.items() if value is not None}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stream_is_these_bytes(name: str) -> None:
    assert rendered([SCRIPTS[name]]) == golden(f"anthropic/{name}.sse")


@pytest.mark.parametrize("name", GOOD)
def test_a_blocking_answer_is_these_bytes(name: str) -> None:
    answer = render.message(completed(SCRIPTS[name]), model="smollm2")
    assert msgspec.json.format(msgspec.json.encode(answer)) + b"\n" == golden(
        f"anthropic/{name}.json"
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_batches_do_not_matter(name: str) -> None:
    wanted = rendered([SCRIPTS[name]])
    for batches in every_batching(SCRIPTS[name]):
        assert rendered(batches) == wanted


@pytest.mark.parametrize("name", [name for name in GOOD if name != "length"])
def test_the_sdk_makes_the_blocking_message_of_the_stream_at_every_cut(name: str) -> None:
    wanted = blocking(SCRIPTS[name])
    for events in every_cut(SCRIPTS[name]):
        assert accumulated(rendered([events])) == wanted


def test_arguments_that_were_cut_off_are_kept_in_the_vendors_wrapper() -> None:
    (block,) = render.message(completed(SCRIPTS["length"]), model="m").content
    assert isinstance(block, answers.ToolUse)
    assert block.input == {"INVALID_JSON": '{"city": "Os'}


def test_hidden_thinking_keeps_its_place_and_its_signature() -> None:
    shown, hidden = stream(), stream(hides_thinking=True)
    first = [event for said in TOOLS for event in shown.said(said)]
    second = [event for said in TOOLS for event in hidden.said(said)]
    assert [e for e in first if not _thinks(e)] == second
    whole = blocking(TOOLS, hides_thinking=True)["content"][0]
    assert whole["thinking"] == ""
    assert whole["signature"] == blocking(TOOLS)["content"][0]["signature"]


def _thinks(event: answers.StreamEvent) -> bool:
    return isinstance(event, answers.BlockDelta) and isinstance(event.delta, answers.ThinkingDelta)


@pytest.mark.parametrize(
    ("cached", "marks", "counts"),
    [
        (0, False, (9, 0, 0)),
        (4, False, (5, 0, 4)),
        (4, True, (1, 4, 4)),
        (8, True, (1, 0, 8)),
        (9, True, (0, 0, 9)),
    ],
)
def test_input_counts_add_up_to_the_prompt(
    cached: int, marks: bool, counts: tuple[int, int, int]
) -> None:
    end = Finished(usage=Usage(prompt_tokens=9, completion_tokens=1, cached_tokens=cached))
    usage = render.message(completed([end]), model="m", marks_cache=marks).usage
    assert counts == (
        usage.input_tokens,
        usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
    )


def test_one_block_is_open_at_a_time() -> None:
    events = [ReasoningDelta(text="a"), TextDelta(text="b"), ReasoningDelta(text="c"), PLAIN[-1]]
    out = stream()
    open_blocks: list[int] = []
    for event in (made for said in events for made in out.said(said)):
        match event:
            case answers.BlockStart(index=index):
                assert open_blocks == []
                open_blocks = [index]
            case answers.BlockDelta(index=index):
                assert open_blocks == [index]
            case answers.BlockStop(index=index):
                assert open_blocks == [index]
                open_blocks = []
            case _:
                assert open_blocks == []
    assert index == 2


def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    out = stream()
    out.feed(PLAIN[:3])
    assert b'"type":"api_error"' in out.flush()


def test_a_cancelled_answer_is_no_answer() -> None:
    with pytest.raises(Unavailable):
        render.message(completed(SCRIPTS["cancelled"]), model="m")
