"""The Responses stream: the exact bytes, the same at every cut, and as the official types say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from api.dialects.responses import render, types
from api.dialects.responses.items import item_id
from shared.events import ChoiceEnd, Event, Finished, ReasoningDelta, TextDelta
from shared.messages import Message, Text
from shared.requests import Chat, Generate
from tests.api.dialects.scripts import (
    GOOD,
    SCRIPTS,
    TOOLS,
    every_batching,
    every_cut,
    logprob,
)
from tests.golden import golden

as_event: Any = TypeAdapter(ResponseStreamEvent).validate_python
ID = "resp_" + "0a" * 16
ASKED = types.CreateResponse(model="smollm2", input="hi", instructions="Be kind.", user="u")
RUN = Generate(
    id=ID,
    model="ai/smollm2:latest",
    input=Chat(messages=(Message(role="user", content=(Text(text="hi"),)),)),
)


def assembly(**more: Any) -> render.Assembly:
    head = render.head(ASKED, RUN, created=1700000000)
    return render.Assembly(head, clock=lambda: 1700000009.5, **more)


def streamed(batches: Iterable[Sequence[Event]], **more: Any) -> bytes:
    out = render.Stream(assembly(**more))
    return b"".join(out.feed(batch) for batch in batches)


def whole(events: Sequence[Event], **more: Any) -> dict[str, Any]:
    """The answer of a client that does not stream."""
    out = assembly(**more)
    list(out.feed(events))
    found: dict[str, Any] = json.loads(render.encode(out.response))
    return found


def events_of(data: bytes) -> list[dict[str, Any]]:
    """The events on the wire; each must stand under its own name and fit the official type."""
    *blocks, rest = data.decode().split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        name, body = block.split("\n")
        event = json.loads(body.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        as_event(event)
        found.append(event)
    return found


def kinds(data: bytes) -> list[str]:
    """The events' names, repetitions told once."""
    names = [event["type"].removeprefix("response.") for event in events_of(data)]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


def accumulated(data: bytes) -> list[dict[str, Any]]:
    """Items as a client puts them together from the deltas alone."""
    items: dict[int, dict[str, Any]] = {}
    for event in events_of(data):
        match event["type"].removeprefix("response."):
            case "output_item.added":
                items[event["output_index"]] = {**event["item"], "said": ""}
            case (
                "output_text.delta"
                | "reasoning_text.delta"
                | "reasoning_summary_text.delta"
                | "function_call_arguments.delta"
            ):
                item = items[event["output_index"]]
                assert item["id"] == event["item_id"]
                item["said"] += event["delta"]
    return [items[index] for index in range(len(items))]


def said(item: dict[str, Any]) -> str:
    """What a whole item says."""
    if item["type"] == "function_call":
        return str(item["arguments"])
    return "".join(part["text"] for part in (*item.get("summary", ()), *item["content"]))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stream_is_these_bytes(name: str) -> None:
    assert streamed([SCRIPTS[name]]) == golden(f"responses/{name}.sse")


@pytest.mark.parametrize("name", GOOD)
def test_whole_answers_are_these_bytes(name: str) -> None:
    data = msgspec.json.encode(whole(SCRIPTS[name]))
    assert msgspec.json.format(data) + b"\n" == golden(f"responses/{name}.json")


@pytest.mark.parametrize("name", SCRIPTS)
def test_batches_do_not_matter(name: str) -> None:
    wanted = streamed([SCRIPTS[name]])
    for batches in every_batching(SCRIPTS[name]):
        assert streamed(batches) == wanted


@pytest.mark.parametrize("summarise", [True, False])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_cut_of_a_stream_amounts_to_the_whole_answer(name: str, summarise: bool) -> None:
    wanted = whole(SCRIPTS[name], summarise=summarise)
    for events in every_cut(SCRIPTS[name]):
        data = streamed([events], summarise=summarise)
        assert events_of(data)[-1]["response"] == wanted
        grown = accumulated(data)
        assert [(item["id"], item["said"]) for item in grown] == [
            (item["id"], said(item)) for item in wanted["output"]
        ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_events_are_numbered_and_every_item_has_its_place(name: str) -> None:
    events = events_of(streamed([SCRIPTS[name]]))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    whole_items = events[-1]["response"]["output"]
    assert done == whole_items[: len(done)]
    assert len(done) == len(whole_items) - (name == "failed")


def test_the_official_order() -> None:
    assert kinds(streamed([TOOLS])) == [
        "created",
        "in_progress",
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        "completed",
    ]


def test_reasoning_as_a_summary_leaves_nothing_out() -> None:
    data = streamed([TOOLS], summarise=True)
    assert kinds(data)[2:8] == [
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
    ]
    (item,) = [one for one in whole(TOOLS, summarise=True)["output"] if one["type"] == "reasoning"]
    assert item["summary"] == [{"type": "summary_text", "text": "Let me look."}]
    assert item["content"] == []
    assert "encrypted_content" not in item


def test_sealed_reasoning_is_there_when_asked_for() -> None:
    item = whole(TOOLS, seal=True)["output"][0]
    assert item["encrypted_content"] == "TGV0IG1lIGxvb2su"


def test_items_are_numbered_behind_the_input() -> None:
    found = [item["id"] for item in whole(TOOLS, first=3)["output"]]
    assert found == [
        item_id(kind, response=ID, place=place)
        for place, kind in enumerate(
            ("reasoning", "message", "function_call", "function_call"), start=3
        )
    ]
    assert found[0] == "rs_" + "0a" * 16 + "0003"


def test_thinking_between_words_makes_items_of_its_own() -> None:
    events = [
        ReasoningDelta(text="a"),
        TextDelta(text="b"),
        ReasoningDelta(text="c"),
        TextDelta(text="d"),
        Finished(choices=(ChoiceEnd(),)),
    ]
    found = whole(events)
    assert [said(item) for item in found["output"]] == ["a", "b", "c", "d"]
    assert found["output_text"] == "bd"


def test_logprobs_are_in_the_deltas_and_in_the_whole() -> None:
    events = [
        TextDelta(text="", logprobs=(logprob("é".encode()[:1]),)),
        TextDelta(text="é", logprobs=(logprob("é".encode()[1:]),)),
        Finished(choices=(ChoiceEnd(),)),
    ]
    data = streamed([events])
    in_deltas = [
        one["bytes"]
        for event in events_of(data)
        if event["type"] == "response.output_text.delta"
        for one in event["logprobs"]
    ]
    part = events_of(data)[-1]["response"]["output"][0]["content"][0]
    assert in_deltas == [one["bytes"] for one in part["logprobs"]] == [[0xC3], [0xA9]]
    assert part["logprobs"][0]["top_logprobs"][1]["logprob"] == -2.5


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("cancelled", "cancelled", None),
    ],
)
def test_how_it_ends(reason: Any, status: str, details: Any) -> None:
    found = whole([TextDelta(text="a"), Finished(choices=(ChoiceEnd(reason=reason),))])
    assert (found["status"], found["incomplete_details"]) == (status, details)
    assert (found["completed_at"] is not None) == (status == "completed")
    assert found["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
