"""Anthropic's Messages API on the wire: what is read and what is written.

Unknown members are refused by name. A member typed `Refused` is known and not honoured: parse.py
answers it by name. docs/dialects.md says of each member what it does; a test compares.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.body import Refused

Share = Annotated[float, Meta(gt=0, le=1)]
Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Anything read; nothing unknown passes."""


class CacheControl(Wire, frozen=True, kw_only=True):
    """Where the caller would cache. Prefixes are always cached; this turns on the count."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Text, in any turn."""

    text: str
    cache_control: CacheControl | None = None
    citations: Refused = None


class Base64Source(Wire, frozen=True, kw_only=True, tag_field="type", tag="base64"):
    """An image's bytes."""

    data: str
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]


class UrlSource(Wire, frozen=True, kw_only=True, tag_field="type", tag="url"):
    """An image elsewhere: refused unless the settings name its host."""

    url: str


class FileSource(Wire, frozen=True, kw_only=True, tag_field="type", tag="file"):
    """An uploaded image: refused, there are no uploads."""

    file_id: Refused


class ImageBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="image"):
    """An image in a user turn or a tool's result."""

    source: Base64Source | UrlSource | FileSource
    cache_control: CacheControl | None = None
    transformations: Refused = None


class ThinkingBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought in an earlier turn."""

    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="redacted_thinking"
):
    """Thinking that only its maker can read: refused."""

    data: Refused


class ToolUseBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_use"):
    """A call the model made in an earlier turn."""

    id: Annotated[str, Meta(min_length=1)]
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None
    toolset_name: Refused = None


class ToolResultBlock(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool_result"):
    """What the call gave."""

    tool_use_id: str
    content: str | tuple[TextBlock | ImageBlock, ...] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: Refused = None


Block = (
    TextBlock | ImageBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
)


class Turn(Wire, frozen=True, kw_only=True):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | tuple[Block, ...]


class Tool(Wire, frozen=True, kw_only=True):
    """A tool of the caller's. Tools of other types are refused before they are read as this."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    input_examples: tuple[dict[str, Any], ...] | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    allowed_callers: tuple[str, ...] | None = None
    defer_loading: Refused = None


class ChoiceAuto(Wire, frozen=True, kw_only=True, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool = False


class ChoiceAny(Wire, frozen=True, kw_only=True, tag_field="type", tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool = False


class ChoiceTool(Wire, frozen=True, kw_only=True, tag_field="type", tag="tool"):
    """This tool must be called."""

    name: str
    disable_parallel_tool_use: bool = False


class ChoiceNone(Wire, frozen=True, kw_only=True, tag_field="type", tag="none"):
    """No tool may be called."""


ToolChoice = ChoiceAuto | ChoiceAny | ChoiceTool | ChoiceNone
Display = Literal["summarized", "omitted"] | None


class ThinkingEnabled(Wire, frozen=True, kw_only=True, tag_field="type", tag="enabled"):
    """Think, for at most so many tokens."""

    budget_tokens: Tokens = 10_000
    display: Display = None


class ThinkingAdaptive(Wire, frozen=True, kw_only=True, tag_field="type", tag="adaptive"):
    """Think as much as it takes."""

    display: Display = None


class ThinkingDisabled(Wire, frozen=True, kw_only=True, tag_field="type", tag="disabled"):
    """Answer at once."""


ThinkingConfig = ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled


class JsonFormat(Wire, frozen=True, kw_only=True):
    """The answer is JSON of this schema."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Wire, frozen=True, kw_only=True):
    """How the answer should look and how hard to think about it."""

    format: JsonFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    task_budget: Refused = None


class ContextManagement(Wire, frozen=True, kw_only=True):
    """What to forget on the way: only keeping everything is honoured."""

    edits: tuple[dict[str, Any], ...] = ()


class Metadata(Wire, frozen=True, kw_only=True):
    """Who the caller asks for."""

    user_id: str | None = None


class CountTokens(Wire, frozen=True, kw_only=True):
    """POST messages/count_tokens. `max_tokens` changes no count; llama-server accepts it."""

    max_tokens: Tokens | None = None
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[tuple[Turn, ...], Meta(min_length=1)]
    system: str | tuple[TextBlock, ...] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Refused = None
    user_profile_id: Refused = None
    workspace_id: Refused = None


class MessageCreate(CountTokens, frozen=True, kw_only=True):
    """POST messages. `max_tokens` may be absent, as in llama-server."""

    max_tokens: Tokens = 4096
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: tuple[Annotated[str, Meta(min_length=1)], ...] | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: Refused = None
    inference_geo: Refused = None
    diagnostics: Refused = None
    compaction: Refused = None
    fallbacks: Refused = None
    fallback_credit_token: Refused = None
    billing_policy: Refused = None
    thread: Refused = None
