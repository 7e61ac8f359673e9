"""Finds out how a template takes messages, by rendering small conversations and looking for them.

Templates differ in ways no marker tells: whether content is text or parts, whether there is a
system role, whether arguments are an object or JSON text. Trying is cheaper than guessing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from msgspec import convert, to_builtins
from msgspec.structs import replace

from shared.errors import BadTemplate
from shared.messages import Tool
from workers.prompt.messages import Quirks, tool_definition
from workers.prompt.template import Template

NEEDLE = "nEedLe7"
KEY = "kEy5"
RESULT = "rEsUlt3"
USER = {"role": "user", "content": "hello"}
PROPERTY = {"type": "string", "description": "any"}
TOOL = Tool(name=NEEDLE, parameters={"type": "object", "properties": {KEY: PROPERTY}})
LIMIT_S = 1.0


def probe(template: Template, *, short_ids: bool = False) -> Quirks:
    """The template's quirks. Never fails: a template that refuses everything has the defaults."""
    parts = not _shows(template, [_user(NEEDLE)]) and _shows(
        template, [_user([{"type": "text", "text": NEEDLE}])]
    )
    hello = _user([{"type": "text", "text": "hello"}] if parts else "hello")
    system: dict[str, Any] = {**hello, "role": "system"}
    system["content"] = [{"type": "text", "text": NEEDLE}] if parts else NEEDLE
    quirks = Quirks(
        content="parts" if parts else "text",
        system=_shows(template, [system, hello]),
        short_ids=short_ids,
    )
    if "tools" not in template.variables or not _shows(template, [hello], tools=True):
        return quirks
    return _with_calls(template, replace(quirks, tools=True), hello)


def _with_calls(template: Template, quirks: Quirks, hello: dict[str, Any]) -> Quirks:
    """How past calls must look to be shown right, or that they are not shown at all."""
    results = False
    for arguments, content in product(("object", "text"), ("", "none")):
        text = _render(template, _conversation(hello, arguments, content), tools=True)
        if text is not None and _right(text):
            two = _render(template, _conversation(hello, arguments, content, calls=2), tools=True)
            found = {"arguments": arguments, "empty_content": content, "several": two is not None}
            return convert({**to_builtins(quirks), **found}, Quirks)
        results = results or (text is not None and RESULT in text)
    return replace(quirks, calls=False, tools=results)


def _conversation(
    hello: dict[str, Any], arguments: str, content: str, *, calls: int = 1
) -> list[dict[str, Any]]:
    given: Any = {KEY: "v"} if arguments == "object" else f'{{"{KEY}": "v"}}'
    function = {"name": "f2", "arguments": given}
    ids = [f"abcdef12{number}" for number in range(calls)]
    turn = {
        "role": "assistant",
        "content": "" if content == "" else None,
        "tool_calls": [{"type": "function", "id": one, "function": function} for one in ids],
    }
    results = [
        {"role": "tool", "content": RESULT, "tool_call_id": one, "name": "f2"} for one in ids
    ]
    return [hello, turn, *results]


def _right(text: str) -> bool:
    """The call is there, its arguments as JSON and not as Python or as JSON in JSON."""
    after = text[text.rfind("hello") :]
    return (
        "f2" in after
        and RESULT in after
        and KEY in after
        and f"'{KEY}'" not in after
        and f'\\"{KEY}' not in after
    )


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _shows(template: Template, messages: Iterable[dict[str, Any]], *, tools: bool = False) -> bool:
    return NEEDLE in (_render(template, list(messages), tools=tools) or "")


def _render(template: Template, messages: list[dict[str, Any]], *, tools: bool) -> str | None:
    variables = {"tools": [tool_definition(TOOL)]} if tools else {}
    try:
        return template.render(messages, now_s=0, variables=variables, limit_s=LIMIT_S)
    except BadTemplate:
        return None
