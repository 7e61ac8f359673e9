"""Anthropic's requests as canonical ones; what is not honoured is refused by name."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from api import body
from api.dialects.anthropic import parse
from api.dialects.anthropic.types import CountTokens, MessageCreate
from shared.errors import RequestError, Unsupported
from shared.messages import Image, Message, Text, Tool, ToolCall
from shared.requests import Chat, Generate, JsonSchema, Sampling, Thinking, ToolChoice

DECODER = msgspec.json.Decoder(MessageCreate)
PNG = b"\x89PNG\r\n"
USE = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "c1", "content": "rain"}
TOOL = {"name": "weather", "input_schema": {"type": "object"}}


def parsed(messages: Any = "hi", **more: Any) -> Generate:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    asked = {"model": "smollm2", "messages": messages} | more
    return parse.generate(body.parse(msgspec.json.encode(asked), DECODER), job="job_1")


def chat(messages: Any = "hi", **more: Any) -> Chat:
    asked = parsed(messages, **more).input
    assert isinstance(asked, Chat)
    return asked


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(data: bytes = PNG) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": b64encode(data).decode()}
    return {"type": "image", "source": source}


def said(role: Any, words: str) -> Message:
    return Message(role=role, content=(Text(text=words),))


def test_the_least_request() -> None:
    assert parsed() == Generate(
        id="job_1",
        model="ai/smollm2:latest",
        input=Chat(messages=(said("user", "hi"),)),
        max_tokens=4096,
    )


def test_sampling_and_limits() -> None:
    asked = parsed(temperature=0.1, top_p=0.9, top_k=7, max_tokens=5, stop_sequences=["a", "b"])
    assert asked.sampling == Sampling(temperature=0.1, top_p=0.9, top_k=7)
    assert (asked.max_tokens, asked.stop) == (5, ("a", "b"))


@pytest.mark.parametrize("system", ["be kind", [text("be "), text("kind")]])
def test_a_system_prompt_comes_first(system: Any) -> None:
    first = chat(system=system).messages[0]
    assert (first.role, first.text) == ("system", "be kind")


def test_turns_of_one_role_are_one_turn() -> None:
    (message,) = chat([user(text("a")), {"role": "user", "content": "b"}]).messages
    assert message.text == "a\n\nb"


def test_a_last_assistant_turn_is_continued() -> None:
    asked = chat([user(text("q")), assistant(text("The answer"))])
    assert asked.continue_final
    assert not chat().continue_final


def test_tools_and_their_results() -> None:
    thought = {"type": "thinking", "thinking": "hmm", "signature": "s"}
    messages = [
        user(text("weather?")),
        assistant(thought, text("look"), USE),
        user({**RESULT, "content": [text("rain"), image()]}, text("and?")),
    ]
    assert chat(messages, tools=[TOOL]).messages == (
        said("user", "weather?"),
        Message(
            role="assistant",
            content=(Text(text="look"),),
            reasoning="hmm",
            tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city":"Oslo"}'),),
        ),
        Message(
            role="tool",
            tool_call_id="c1",
            name="weather",
            content=(Text(text="rain"), Image(data=PNG)),
        ),
        said("user", "and?"),
    )


@pytest.mark.parametrize(
    ("content", "seen"),
    [("no net", "Error: no net"), ("Error 5", "Error 5"), (None, "Error: ")],
)
def test_a_failed_tool_says_so(content: str | None, seen: str) -> None:
    failed = {**RESULT, "content": content, "is_error": True}
    messages = [user(text("q")), assistant(USE), user(failed)]
    assert chat(messages, tools=[TOOL]).messages[-1].text == seen


def test_an_image() -> None:
    (message,) = chat([user(image(), text("what?"))]).messages
    assert message.content == (Image(data=PNG, media_type="image/png"), Text(text="what?"))


def test_a_tool() -> None:
    tool = {
        **TOOL,
        "type": "custom",
        "description": "d",
        "strict": True,
        "input_examples": [{"city": "Rome"}],
        "allowed_callers": ["direct"],
    }
    assert chat(tools=[tool]).tools == (
        Tool(
            name="weather",
            description="d",
            parameters={"type": "object", "examples": [{"city": "Rome"}]},
            strict=True,
        ),
    )


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"type": "auto"}, ToolChoice()),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
        ({"type": "any"}, ToolChoice(mode="required")),
        ({"type": "none"}, ToolChoice(mode="none")),
        ({"type": "tool", "name": "weather"}, ToolChoice(mode="named", name="weather")),
    ],
)
def test_tool_choice(choice: dict[str, Any], wanted: ToolChoice) -> None:
    assert chat(tools=[TOOL], tool_choice=choice).tool_choice == wanted


@pytest.mark.parametrize(
    ("config", "effort", "wanted"),
    [
        (None, None, Thinking()),
        ({"type": "enabled", "budget_tokens": 2000}, None, Thinking(enabled=True, budget=2000)),
        ({"type": "enabled"}, None, Thinking(enabled=True, budget=10_000)),
        ({"type": "adaptive"}, "low", Thinking(enabled=True, effort="low")),
        ({"type": "disabled"}, "max", Thinking(enabled=False, effort="high")),
    ],
)
def test_thinking(config: Any, effort: Any, wanted: Thinking) -> None:
    assert chat(thinking=config, output_config={"effort": effort}).thinking == wanted


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema(where: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    given = {"format": form} if where == "output_config" else form
    assert parsed(**{where: given}).constraint == JsonSchema(schema={"type": "object"})


def test_counting_asks_for_the_tokens_of_the_same_conversation() -> None:
    asked = {"model": "smollm2", "messages": [user(text("a"))], "system": "s", "tools": [TOOL]}
    wire = body.parse(msgspec.json.encode(asked), msgspec.json.Decoder(CountTokens))
    assert parse.tokenize(wire, job="j").input == chat([user(text("a"))], system="s", tools=[TOOL])


MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    "more",
    [
        MARK,
        {"system": [{**text("s"), **MARK}]},
        {"tools": [{**TOOL, **MARK}]},
        {"messages": [user({**text("a"), **MARK})]},
        {
            "messages": [
                user(text("a")),
                assistant(USE),
                user({**RESULT, "content": [{**text("b"), **MARK}]}),
            ]
        },
    ],
)
def test_a_cache_mark_is_found_wherever_it_may_stand(more: dict[str, Any]) -> None:
    asked = {"model": "m", "messages": [user(text("a"))], **more}
    assert parse.marks_cache(msgspec.convert(asked, MessageCreate))
    assert not parse.marks_cache(msgspec.convert({**asked, **_unmarked(more)}, MessageCreate))


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: None if key == "cache_control" else _unmarked(inner)
            for key, inner in value.items()
        }
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


URL = {"type": "image", "source": {"type": "url", "url": "file:///y.png"}}
CITED = {**text("a"), "citations": [{"type": "char_location"}]}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"metadata": {"team": "a"}}, "metadata.team"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name"),
        ({"speed": "fast"}, "speed"),
        ({"output_config": {"task_budget": {"total": 1}}}, "output_config.task_budget"),
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ({"messages": [user(URL)]}, "messages.0.content.0.source.url"),
        ({"messages": [user(CITED)]}, "messages.0.content.0.citations"),
        ({"messages": [user({**image(), "transformations": {"a": 1}})]}, "transformations"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tools": [{**TOOL, "allowed_callers": ["x"]}]}, "tools.0.allowed_callers"),
        (
            {
                "messages": [
                    user(text("a")),
                    assistant({"type": "redacted_thinking", "data": "x"}),
                ]
            },
            "messages.1.content.0",
        ),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parsed(**{"messages": "hi", **more})
    assert param in (caught.value.param or "")
    assert param in caught.value.message


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [user()]}, "no content"),
        ({"messages": [{"role": "user", "content": ""}]}, "no content"),
        ({"messages": [user(text("a")), assistant(USE)]}, "tool_result"),
        ({"messages": [user(text("a")), assistant(USE), user(text("b"))]}, "c1"),
        ({"messages": [user(RESULT)]}, "tool_use_id"),
        ({"messages": [user(text("a")), assistant(USE), user(RESULT, RESULT)]}, "tool_use_id"),
        ({"messages": [user(USE)]}, "assistant turn"),
        ({"messages": [user(text("a")), assistant(image())]}, "user turn"),
        ({"messages": [{"role": "system", "content": [image()]}]}, "text"),
        ({"messages": [user({"type": "document", "source": {}})]}, "document"),
        ({"messages": [user({"type": "server_tool_use", "id": "x"})]}, "server_tool_use"),
        ({"messages": [user(image(b""))]}, "no bytes"),
        (
            {"messages": [user({"type": "image", "source": {**image()["source"], "data": "%%%"}})]},
            "base64",
        ),
        ({"tools": [TOOL, TOOL]}, "twice"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0"),
        ({"tools": [{"name": "a"}]}, "input_schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"thinking": {"type": "between_tools"}}, "between_tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_is_said(more: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says.replace("[", r"\[")):
        parsed(**{"messages": "hi", **more})


def test_keeping_all_thinking_is_no_edit() -> None:
    edit = {"type": "clear_thinking_20251015", "keep": "all"}
    assert parsed(context_management={"edits": [edit]}) == parsed()
