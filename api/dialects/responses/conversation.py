"""Items into the canonical conversation. Pure.

What the assistant did in one turn is one message: its reasoning, its text and the calls after it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import assert_never

import msgspec

from api.dialects.openai.parse import base64_of, image_of
from api.dialects.responses import items
from api.dialects.responses import types as wire
from shared.errors import RequestError, Unsupported
from shared.messages import Audio, Image, Link, Message, Part, Text, ToolCall

ROLES: dict[str, str] = {"developer": "system"}


def messages(
    instructions: str | None, history: Sequence[items.Json], asked: Sequence[items.Json]
) -> tuple[Message, ...]:
    """The whole conversation. `history` are items of stored responses, `asked` the request's.

    Raises RequestError, Unsupported.
    """
    turns = _Turns()
    if instructions:
        turns.say(Message(role="system", content=(Text(text=instructions),)))
    for item in history:
        turns.take(items.decoded(item, "previous_response_id"), "previous_response_id")
    for place, item in enumerate(asked):
        turns.take(items.decoded(item, f"input[{place}]"), f"input[{place}]")
    return turns.end()


def sealed(reasoning: str) -> str:
    """Reasoning as `encrypted_content`: opaque to clients that want it so, and no secret."""
    return base64.b64encode(reasoning.encode()).decode()


class _Turns:
    """Messages as they come together."""

    def __init__(self) -> None:
        self._said: list[Message] = []
        self._thought = ""
        self._names: dict[str, str] = {}  # of functions, by call id

    def take(self, item: wire.Item, where: str) -> None:
        match item:
            case wire.ReasoningItem():
                self._thought += _reasoning(item, where)
            case wire.FunctionCallItem():
                self._call(item)
            case wire.FunctionOutputItem():
                self.say(
                    Message(
                        role="tool",
                        content=_content(item.output, f"{where}.output"),
                        tool_call_id=item.call_id,
                        name=self._names.get(item.call_id),
                    )
                )
            case wire.MessageItem():
                role = ROLES.get(item.role, item.role)
                content = _content(item.content, f"{where}.content")
                self.say(Message(role=role, content=content))  # type: ignore[arg-type]
            case wire.ItemReference():
                raise AssertionError("references are resolved before")
            case _:
                assert_never(item)

    def say(self, message: Message) -> None:
        if message.role == "assistant" and self._thought:
            message = msgspec.structs.replace(message, reasoning=self._thought)
            self._thought = ""
        self._cut_short()
        self._said.append(message)

    def end(self) -> tuple[Message, ...]:
        self._cut_short()
        return tuple(self._said)

    def _call(self, item: wire.FunctionCallItem) -> None:
        self._names[item.call_id] = item.name
        call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
        last = self._said[-1] if self._said and not self._thought else None
        if last is None or last.role != "assistant":
            self.say(Message(role="assistant", tool_calls=(call,)))
        else:
            calls = (*last.tool_calls, call)
            self._said[-1] = msgspec.structs.replace(last, tool_calls=calls)

    def _cut_short(self) -> None:
        """Thought and then nothing: an answer that ended in its reasoning."""
        if self._thought:
            self._said.append(Message(role="assistant", reasoning=self._thought))
            self._thought = ""


def _reasoning(item: wire.ReasoningItem, where: str) -> str:
    if item.content:
        return "".join(part.text for part in item.content)
    if item.encrypted_content is not None:
        return _opened(item.encrypted_content, f"{where}.encrypted_content")
    return "".join(part.text for part in item.summary or ())


def _opened(text: str, param: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise RequestError(f"{param}: this was not made here", param=param) from None


def _content(given: wire.Content, where: str) -> tuple[Part, ...]:
    if isinstance(given, str):
        return (Text(text=given),)
    return tuple(_part(part, f"{where}[{place}]") for place, part in enumerate(given))


def _part(part: wire.Part, where: str) -> Part:
    match part:
        case wire.InputText(text=text) | wire.ChatText(text=text) | wire.OutputText(text=text):
            return Text(text=text)
        case wire.RefusalText(refusal=text):
            return Text(text=text)
        case wire.InputImage():
            return _image(_url(part, where), f"{where}.image_url")
        case wire.ChatImage(image_url=str(url)) | wire.ChatImage(image_url=wire.ImageURL(url=url)):
            return _image(url, f"{where}.image_url")
        case wire.InputAudio(input_audio=sound):
            data = base64_of(sound.data, f"{where}.input_audio.data")
            return Audio(data=data, format=sound.format)
        case _:
            raise AssertionError(part)


def _url(part: wire.InputImage, where: str) -> str:
    if part.file_id is not None:
        raise Unsupported(f"{where}.file_id", "no files are kept; send the image as a data URI")
    if part.image_url is None:
        param = f"{where}.image_url"
        raise RequestError(f"{param}: this field is required", param=param)
    return part.image_url


def _image(uri: str, param: str) -> Image | Link:
    found = image_of(uri, param)
    if isinstance(found, Image) and not found.data:
        raise RequestError(f"{param}: an image of no bytes", param=param)
    return found
