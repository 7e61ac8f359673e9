"""Tools for models whose template knows none: described in the system text, spoken of as text.

The wording is ours and always the same, so that prefixes are shared:

    You can call these functions. To call one, answer with nothing but JSON:
    {"name": <function name>, "arguments": <object>}
    [the functions, one JSON object a line]

Past calls appear as the same JSON in the assistant's turns, results as user turns that begin with
`Result of <name>:`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec.structs import replace

from shared.errors import RequestError
from shared.messages import Message, Part, Text, Tool
from shared.requests import Chat
from workers.prompt.messages import parse_arguments, tool_definition
from workers.text.toolcalls.formats import Format

INTRODUCTION = """\
You can call these functions. To call one, answer with nothing but JSON:
{"name": <function name>, "arguments": <object>}
To call several at once, answer with a JSON list of such objects.
If no function is needed, answer in words.
"""


def check(chat: Chat) -> None:
    """RequestError for tools and choices that contradict each other."""
    names = [tool.name for tool in chat.tools]
    choice = chat.tool_choice
    if len(set(names)) != len(names):
        raise RequestError("tools: two tools have the same name", param="tools")
    if choice.mode in ("required", "named") and not names:
        raise RequestError("tool_choice: there are no tools to choose from", param="tool_choice")
    if choice.mode == "named" and choice.name not in names:
        raise RequestError(f"tool_choice: no tool is named {choice.name!r}", param="tool_choice")


def offered(chat: Chat) -> tuple[Tool, ...]:
    """The tools the model may call: none, all, or the named one."""
    match chat.tool_choice.mode:
        case "none":
            return ()
        case "named":
            return tuple(tool for tool in chat.tools if tool.name == chat.tool_choice.name)
        case "auto" | "required":
            return chat.tools


def as_text(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
    """The conversation in system, user and assistant turns alone."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    turns = _merged([_plain(message, names) for message in messages])
    if not tools:
        return tuple(turns)
    definitions = [tool_definition(tool)["function"] for tool in tools]
    listed = "\n".join(json.dumps(found, ensure_ascii=False) for found in definitions)
    return tuple(_with_system(turns, INTRODUCTION + listed))


def calls_as_text(messages: Sequence[Message], form: Format) -> tuple[Message, ...]:
    """The conversation with past calls written into the text, as the model itself writes them."""
    return tuple(_written(found, form) if found.tool_calls else found for found in messages)


def _written(message: Message, form: Format) -> Message:
    calls = [
        form.call.format(
            name=call.name, arguments=json.dumps(parse_arguments(call), ensure_ascii=False)
        )
        for call in message.tool_calls
    ]
    opening, closing = form.section if len(calls) == 1 or not form.many else form.many
    text = message.text + opening + form.between.join(calls) + closing
    return replace(message, content=(Text(text=text),), tool_calls=())


def _plain(message: Message, names: dict[str, str]) -> Message:
    if message.role == "tool":
        name = message.name or names.get(message.tool_call_id or "", "the function")
        text = f"Result of {name}: {message.text}"
        return Message(role="user", content=(Text(text=text), *_no_text(message.content)))
    if not message.tool_calls:
        return message
    calls = [{"name": call.name, "arguments": parse_arguments(call)} for call in message.tool_calls]
    said = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    text = "\n".join(part for part in (message.text, said) if part)
    return Message(role="assistant", content=(Text(text=text),), reasoning=message.reasoning)


def _no_text(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if not isinstance(part, Text)]


def _merged(turns: list[Message]) -> list[Message]:
    """Results of several calls, and what the user says after them, are one user turn."""
    out: list[Message] = []
    for turn in turns:
        if out and turn.role == "user" == out[-1].role:
            content = (*out[-1].content, Text(text="\n"), *turn.content)
            out[-1] = replace(out[-1], content=content)
        else:
            out.append(turn)
    return out


def _with_system(turns: list[Message], text: str) -> list[Message]:
    if turns and turns[0].role == "system":
        content = (*turns[0].content, Text(text="\n\n" + text))
        return [replace(turns[0], content=content), *turns[1:]]
    return [Message(role="system", content=(Text(text=text),)), *turns]
