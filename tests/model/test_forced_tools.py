"""tool_choice required and named on the default model, hot: every call is a valid one.

`WHOLE=1 pytest -s tests/model/test_forced_tools.py` asks 100 times and prints the figure.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared.messages import Message, Text, Tool
from shared.requests import Chat, Generate, Sampling, ToolChoice
from tests.model.asking import WHOLE, Answer, Asking

CALLS = 100 if WHOLE else 12
MAX_TOKENS = 1500  # a list of calls has 16 at most


def tool(name: str, description: str, **properties: Any) -> Tool:
    """A tool all of whose arguments are required."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return Tool(name=name, description=description, parameters=parameters)


WORD = {"type": "string", "maxLength": 40}
TOOLS = (
    tool(
        "get_weather",
        "The weather of a place",
        city=WORD,
        unit={"enum": ["celsius", "fahrenheit"]},
        days={"type": "integer", "minimum": 1, "maximum": 7},
    ),
    tool("send_mail", "Write to people", to={"type": "array", "items": WORD, "maxItems": 3}),
    tool(
        "set_alarm",
        "Wake someone",
        at={"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
        repeat={"type": "boolean"},
    ),
    tool(
        "move",
        "Drive to a point",
        point={
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
            "required": ["x", "y"],
            "additionalProperties": False,
        },
    ),
)
SCHEMAS = {found.name: Draft202012Validator(found.parameters) for found in TOOLS}
ASKED = (
    "What is the weather in Paris tomorrow?",
    "Tell Ann and Bob that I am late.",
    "Wake me at half past six, every day.",
    "Go to the point 3.5, -2.",
    "Tell me a joke about cats, no tools please.",
)


@pytest.mark.timeout(900 if WHOLE else 120)
def test_every_required_call_is_valid(asking: Asking) -> None:
    answers = asking.all(request(n, ToolChoice(mode="required")) for n in range(CALLS))
    assert len(answers) == CALLS
    valid = sum(is_valid(answer) for answer in answers)
    print(f"\ntool_choice required: {valid} of {CALLS} valid")
    assert valid == CALLS, [(a.reason, a.calls, a.text) for a in answers if not is_valid(a)]


def test_a_named_call_is_of_that_tool(asking: Asking) -> None:
    names = list(SCHEMAS)
    answers = asking.all(
        request(n, ToolChoice(mode="named", name=name)) for n, name in enumerate(names)
    )
    assert all(is_valid(answer) for answer in answers)
    assert [answer.calls[0][0] for answer in answers] == names


def request(n: int, choice: ToolChoice) -> Generate:
    """One hot question, with all tools."""
    message = Message(role="user", content=(Text(text=ASKED[n % len(ASKED)]),))
    return Generate(
        id=f"call-{n}",
        model="",
        input=Chat(messages=(message,), tools=TOOLS, tool_choice=choice),
        sampling=Sampling(seed=n, temperature=1.2),
        max_tokens=MAX_TOKENS,
    )


def is_valid(answer: Answer) -> bool:
    """Whether it calls, says nothing else, and each call's arguments are what its tool asks for."""
    if answer.reason != "tool_calls" or answer.text or not answer.calls:
        return False
    return all(SCHEMAS[name].is_valid(json.loads(arguments)) for name, arguments in answer.calls)
