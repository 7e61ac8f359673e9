"""The conversation as every dialect sees it: messages, their parts, tools and tool calls."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Text(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """Plain text."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    """An image, already decoded from its data URI: encoded file bytes (PNG, JPEG, …)."""

    data: bytes
    media_type: str = "image/png"


class Audio(msgspec.Struct, frozen=True, kw_only=True, tag="audio"):
    """A sound, as encoded file bytes."""

    data: bytes
    format: str = "wav"


class Link(msgspec.Struct, frozen=True, kw_only=True, tag="link"):
    """An image that a caller named by its URL in the field `param`: the api fetches it before there
    is a job, or answers with `refusal`. No worker sees one."""

    url: str
    param: str
    refusal: str

    @classmethod
    def of(cls, uri: str, param: str, *, refusal: str) -> Link | None:
        """For a URI that is none of http and https, None."""
        if not uri.startswith(("http://", "https://")):
            return None
        return cls(url=uri, param=param, refusal=refusal)


Part = Text | Image | Audio | Link


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call the assistant made; `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `tool_call_id` and `name` belong to role `tool`, `reasoning` to `assistant`."""

    role: Role
    content: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.content if isinstance(part, Text))
