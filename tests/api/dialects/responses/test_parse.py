"""Responses requests: what each member comes to, and what is refused by which name."""

from __future__ import annotations

from typing import Any

import pytest

from api.dialects.responses import items
from shared.errors import RequestError, Unsupported
from shared.messages import Audio, Image, Message, Text, Tool, ToolCall
from shared.requests import JsonObject, JsonSchema, Sampling, Thinking, ToolChoice
from tests.api.dialects.responses.asks import (
    CALL,
    FULL,
    HI,
    JOB,
    PIXEL,
    RESULT,
    SCHEMA,
    THOUGHT,
    TOOL,
    asked,
    chat,
    wire,
)


def spoken(role: Any, text: str, **more: Any) -> Message:
    return Message(role=role, content=(Text(text=text),), **more)


def test_a_text_is_one_user_s_message() -> None:
    found = asked()
    assert (found.id, found.model, found.max_tokens) == (JOB, "ai/smollm2:latest", None)
    assert found.sampling == Sampling()
    assert chat().messages == (spoken("user", "hi"),)


def test_a_full_request() -> None:
    found, said = asked(**FULL), chat(**FULL)
    assert (found.max_tokens, found.logprobs, found.lane) == (5, 3, "batch")
    assert found.constraint == JsonSchema(schema=SCHEMA)
    assert found.sampling == Sampling(temperature=0.5, top_p=0.5)
    assert said.tools == (Tool(name="f", parameters=SCHEMA),)
    assert said.tool_choice == ToolChoice(mode="required", parallel=False)
    assert said.thinking == Thinking(enabled=True, effort="low")
    assert said.messages == (
        spoken("system", "Be kind."),
        Message(
            role="user",
            content=(
                Text(text="a"),
                Image(data=b"hi", media_type="image/png"),
                Audio(data=b"hi", format="wav"),
            ),
        ),
        spoken(
            "assistant",
            "b",
            reasoning="h",
            tool_calls=(ToolCall(id="c", name="f", arguments="{}"),),
        ),
        spoken("tool", "4", tool_call_id="c", name="f"),
        spoken("system", "c"),
    )


@pytest.mark.parametrize(
    ("given", "thinking"),
    [
        ({}, Thinking()),
        ({"reasoning": {}}, Thinking()),
        ({"reasoning": {"effort": "none"}}, Thinking(enabled=False)),
        ({"reasoning": {"effort": "minimal"}}, Thinking(enabled=True, effort="minimal")),
        ({"reasoning": {"effort": "xhigh"}}, Thinking(enabled=True, effort="high")),
        ({"reasoning_effort": "max"}, Thinking(enabled=True, effort="high")),
    ],
)
def test_effort(given: dict[str, Any], thinking: Thinking) -> None:
    assert chat(**given).thinking == thinking


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({}, ToolChoice()),
        ({"tool_choice": "none"}, ToolChoice(mode="none")),
        ({"tool_choice": "required"}, ToolChoice(mode="required")),
        ({"tool_choice": {"type": "function", "name": "f"}}, ToolChoice(mode="named", name="f")),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            ToolChoice(mode="named", name="f"),
        ),
        ({"parallel_tool_calls": False}, ToolChoice(parallel=False)),
    ],
)
def test_tool_choice(given: dict[str, Any], choice: ToolChoice) -> None:
    assert chat(tools=[TOOL], **given).tool_choice == choice


def test_tools_lie_flat_or_nested() -> None:
    flat = {"type": "function", "name": "f", "description": "d", "strict": True}
    nested = {"type": "function", "function": {"name": "f", "description": "d", "strict": True}}
    assert chat(tools=[flat]).tools == chat(tools=[nested]).tools
    assert chat(tools=[flat]).tools == (Tool(name="f", description="d", strict=True),)


def test_text_formats() -> None:
    assert asked(text={"format": {"type": "text"}}).constraint is None
    assert asked(text={"format": {"type": "json_object"}}).constraint == JsonObject()


@pytest.mark.parametrize(
    ("given", "logprobs"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 2}, 2),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 5}, 5),
    ],
)
def test_logprobs(given: dict[str, Any], logprobs: int | None) -> None:
    assert asked(**given).logprobs == logprobs


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([CALL, RESULT], [("assistant", 1), ("tool", 0)]),
        ([HI, CALL, CALL, RESULT], [("user", 0), ("assistant", 2), ("tool", 0)]),
        ([CALL, RESULT, CALL], [("assistant", 1), ("tool", 0), ("assistant", 1)]),
        ([THOUGHT, CALL, THOUGHT, CALL], [("assistant", 1), ("assistant", 1)]),
        ([HI, THOUGHT], [("user", 0), ("assistant", 0)]),
        ([THOUGHT, HI], [("assistant", 0), ("user", 0)]),
    ],
)  # fmt: skip
def test_what_becomes_one_turn(given: list[Any], wanted: list[tuple[str, int]]) -> None:
    found = chat(input=given).messages
    assert [(message.role, len(message.tool_calls)) for message in found] == wanted
    thoughts = sum(item.get("type") == "reasoning" for item in given)
    assert [message.reasoning for message in found].count("h") == thoughts


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ({"type": "text", "text": "a"}, Text(text="a")),
        ({"type": "image_url", "image_url": PIXEL}, Image(data=b"hi")),
        ({"type": "image_url", "image_url": {"url": PIXEL}}, Image(data=b"hi")),
        ({"type": "refusal", "refusal": "no"}, Text(text="no")),
    ],
)
def test_parts_of_either_api(part: dict[str, Any], wanted: Any) -> None:
    (message,) = chat(input=[{"role": "user", "content": [part]}]).messages
    assert message.content == (wanted,)


def test_reasoning_comes_back_in_any_of_its_forms() -> None:
    for form in (
        {"content": [{"type": "reasoning_text", "text": "h"}]},
        {"encrypted_content": "aA=="},
        {"summary": [{"type": "summary_text", "text": "h"}]},
    ):
        item = {"type": "reasoning", "id": "rs_1", "summary": [], **form}
        (message,) = chat(input=[item]).messages
        assert message.reasoning == "h"


def image(**more: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_image", **more}]}]}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"background": True, "store": False}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}},
         "stream_options.include_obfuscation"),
        ({"tools": [{"type": "web_search_preview", "search_context_size": "low"}]},
         "tools[0].type"),
        ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"input": [HI, {"type": "web_search_call", "id": "ws_1"}]}, "input[1].type"),
        (image(image_url="file:///a.png"), "input[0].content[0].image_url"),
        ({"tools": [TOOL | {"colour": 1}]}, "tools[0].colour"),
        ({"seed": 1}, "seed"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        asked(**given)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "nobody", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
         "input[0].content[0].type"),
        ({"input": [{}]}, "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": [{"type": "reasoning", "encrypted_content": "?"}]},
         "input[0].encrypted_content"),
        (image(), "input[0].content[0].image_url"),
        (image(image_url="data:image/png;base64,?"), "input[0].content[0].image_url"),
        (image(image_url="data:image/png;base64,"), "input[0].content[0].image_url"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto",
                                           "tools": [{"type": "function", "name": "g"}]}},
         "tool_choice.tools"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
         "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": 3}}},
         "text.format.schema"),
        ({"stream_options": {}}, "stream_options"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**given)
    assert caught.value.param == param
    assert param in caught.value.message


def test_items_are_kept_whole_with_ids_and_types() -> None:
    kept = items.given(wire(input=[HI, {**CALL, "id": "fc_mine"}, RESULT]), response=JOB)
    assert [(item["type"], item["id"], item["status"]) for item in kept] == [
        ("message", "msg_" + "0b" * 16 + "0000", "completed"),
        ("function_call", "fc_mine", "completed"),
        ("function_call_output", "fco_" + "0b" * 16 + "0002", "completed"),
    ]
    assert kept[0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert items.response_of(kept[0]["id"]) == JOB
    assert items.response_of("msg_mine") is None


def test_references_become_what_they_stand_for() -> None:
    known = items.item_id("message", response=JOB, place=3)
    given = items.given(wire(input=[{"id": known}, HI]), response=JOB)
    assert items.references(given) == {known: JOB}
    found = {"type": "message", "id": known, "role": "assistant", "content": "b"}
    assert items.resolved(given, [found])[0] == found


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_together_are_the_list(order: str, limit: int) -> None:
    everything = [{"id": f"msg_{n}"} for n in range(5)]
    found, after = [], None
    while True:
        page = items.page(everything, after=after, limit=limit, order=order)
        assert (page.first_id, page.last_id) == (page.data[0]["id"], page.data[-1]["id"])
        found += page.data
        after = page.last_id
        if not page.has_more:
            break
    assert found == (everything if order == "asc" else everything[::-1])
    with pytest.raises(RequestError):
        items.page(everything, after="msg_9", limit=limit, order=order)
