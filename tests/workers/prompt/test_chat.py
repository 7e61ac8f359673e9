"""Conversations to prompts, for templates of every habit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from shared.errors import BadTemplate, RequestError, Unsupported
from shared.messages import Image, Message, Text, Tool, ToolCall
from shared.requests import Chat, Thinking, ToolChoice
from tests.workers.prompt.templates import EFFORT, HERMES, PARTS, STERN, THINKER
from tests.workers.real_vocab import real_vocab
from workers.models.gguf import ModelFacts
from workers.prompt.chat import format_of, render
from workers.prompt.model_text import ModelText

ADD = Tool(
    name="add",
    description="Adds.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}}},
)


def model(template: str) -> ModelText:
    """The default model's vocabulary under another template."""
    facts = ModelFacts(path="", size_bytes=0, architecture="llama", chat_template=template)
    return ModelText(real_vocab(), facts)


def say(role: Any, text: str, **rest: Any) -> Message:
    """A message of text."""
    return Message(role=role, content=(Text(text=text),) if text else (), **rest)


HI = say("user", "hi")
CALL = ToolCall(id="call_0123456789", name="add", arguments='{"a": 1}')
CALLED = (
    HI,
    say("assistant", "", tool_calls=(CALL,)),
    say("tool", "two", tool_call_id=CALL.id),
)


def prompt(template: str, *messages: Message, **rest: Any) -> str:
    """The rendered prompt."""
    return render(Chat(messages=messages, **rest), model(template), now_s=0)


def test_a_template_that_knows_tools_shows_them_itself() -> None:
    text = prompt(HERMES, say("system", "Be kind."), *CALLED, tools=(ADD,))
    shown = json.loads(text.split("Tools:")[1].split(";")[0])
    assert shown["function"] == {
        "name": "add", "description": "Adds.", "parameters": ADD.parameters,
    }  # fmt: skip
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' in text
    assert "<tool_response>two</tool_response>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_template_that_knows_no_tools_gets_the_generic_prompt() -> None:
    found = model("")
    assert not found.quirks.tools
    assert format_of(found).name == "generic"
    text = render(Chat(messages=CALLED, tools=(ADD,)), found, now_s=0)
    assert '{"name": <function name>, "arguments": <object>}' in text
    assert '"description": "Adds."' in text
    assert '<|im_start|>assistant\n{"name": "add", "arguments": {"a": 1}}<|im_end|>' in text
    assert "<|im_start|>user\nResult of add: two<|im_end|>" in text


def test_tools_the_model_may_not_call_are_not_shown() -> None:
    text = prompt(HERMES, HI, tools=(ADD,), tool_choice=ToolChoice(mode="none"))
    assert "Adds." not in text


def test_a_named_tool_is_the_only_one_shown() -> None:
    other = Tool(name="sub", description="Subtracts.")
    choice = ToolChoice(mode="named", name="add")
    text = prompt(HERMES, HI, tools=(ADD, other), tool_choice=choice)
    assert "Adds." in text
    assert "Subtracts." not in text


def test_system_text_goes_to_the_user_where_there_is_no_such_role() -> None:
    assert prompt(STERN, say("system", "Be kind."), HI).endswith("[user]Be kind.\n\nhi")


def test_arguments_and_ids_as_a_stern_template_wants_them() -> None:
    text = prompt(STERN, *CALLED, tools=(ADD,))
    assert '{"name": "add", "arguments": {"a": 1}}' in text
    ids = text.split("[RESULT]")[1].split(" ")[0]
    assert len(ids) == 9
    assert ids.isalnum()


def test_calls_one_by_one_where_a_turn_may_have_one_only() -> None:
    other = ToolCall(id="call_9", name="add", arguments='{"a": 2}')
    chat = (
        HI,
        say("assistant", "Both.", tool_calls=(CALL, other)),
        say("tool", "two", tool_call_id=CALL.id),
        say("tool", "three", tool_call_id=other.id),
    )
    strict = "{% if messages | selectattr('tool_calls') | map(attribute='tool_calls') "
    strict += "| map('length') | select('gt', 1) | list %}{{ raise_exception('one!') }}{% endif %}"
    text = prompt(strict + HERMES, *chat, tools=(ADD,))
    places = [text.index(part) for part in ("Both.", '"a": 1', ">two<", '"a": 2', ">three<")]
    assert places == sorted(places)
    assert text.count("Both.") == text.count(">two<") == 1


def test_content_in_parts() -> None:
    assert prompt(PARTS, say("system", "Be kind."), HI) == "system: Be kind.;user: hi;"


def test_images_are_refused_by_a_model_of_text() -> None:
    image = Message(role="user", content=(Text(text="See"), Image(data=b"")))
    with pytest.raises(Unsupported, match="not image") as caught:
        prompt(HERMES, image)
    assert caught.value.param == "messages"


def test_the_last_message_is_continued() -> None:
    text = prompt(HERMES, HI, say("assistant", "Once upon "), continue_final=True)
    assert text.endswith("<|im_start|>assistant\nOnce upon ")


@pytest.mark.parametrize("last", [HI, say("assistant", "")])
def test_nothing_to_continue_is_refused(last: Message) -> None:
    with pytest.raises(RequestError, match="continued"):
        prompt(HERMES, HI, last, continue_final=True)


BAD: dict[str, dict[str, Any]] = {
    "no messages": {"messages": ()},
    "no tools": {"messages": (HI,), "tool_choice": ToolChoice(mode="required")},
    "no such tool": {
        "messages": (HI,),
        "tools": (ADD,),
        "tool_choice": ToolChoice(mode="named", name="x"),
    },
    "twice": {"messages": (HI,), "tools": (ADD, ADD)},
    "arguments": {
        "messages": (HI, say("assistant", "", tool_calls=(replace(CALL, arguments="["),)))
    },
    "reserved option": {"messages": (HI,), "template_options": {"messages": []}},
    "unread option": {"messages": (HI,), "template_options": {"shoe_size": 44}},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_contradictions_are_refused(name: str) -> None:
    with pytest.raises(RequestError):
        render(Chat(**BAD[name]), model(HERMES), now_s=0)


def test_a_broken_template_is_the_chats_error_and_not_the_models() -> None:
    broken = model("{{ (")
    with pytest.raises(BadTemplate, match="template"):
        render(Chat(messages=(HI,)), broken, now_s=0)


def test_thinking_is_switched_by_the_template_where_it_can() -> None:
    off = prompt(HERMES, HI, thinking=Thinking(enabled=False))
    assert off.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert prompt(HERMES, HI, template_options={"enable_thinking": False}) == off
    on = prompt(HERMES, HI, thinking=Thinking(enabled=True))
    assert on.endswith("<|im_start|>assistant\n")


def test_thinking_is_closed_where_the_template_has_no_switch() -> None:
    assert prompt(THINKER, HI).endswith("<|assistant|><think>\n")
    off = prompt(THINKER, HI, thinking=Thinking(enabled=False))
    assert off.endswith("<|assistant|><think>\n\n</think>\n\n")


def test_effort_reaches_the_template() -> None:
    assert "effort=low" in prompt(EFFORT, HI, thinking=Thinking(effort="low"))


def test_a_model_that_cannot_think_says_so() -> None:
    for thinking in (Thinking(enabled=True), Thinking(effort="high")):
        with pytest.raises(Unsupported, match="thinking"):
            prompt(PARTS, HI, thinking=thinking)
    for thinking in (Thinking(enabled=False), Thinking(budget=10), Thinking(effort="minimal")):
        assert prompt(PARTS, HI, thinking=thinking) == "user: hi;"
