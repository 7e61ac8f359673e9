"""What Responses clients send. Every field here is honoured, without effect, or refused by name.

Null means absent everywhere. `Refused` fields are declared so that they can be refused with a
reason; what is not declared is refused as unknown. Items and tools are decoded one by one, so that
a type that is not served is named as such, not by its first unknown field.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.body import Refused

Probability = Annotated[float, Meta(ge=0, le=1)]
AtLeastOne = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Status = Literal["in_progress", "completed", "incomplete"]
Json = dict[str, Any]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is decoded strictly."""


class Reasoning(Wire, frozen=True, kw_only=True):
    """`generate_summary` is the older word for `summary`."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Refused = None
    mode: Refused = None


class TextFormat(Wire, frozen=True, kw_only=True, tag="text"):
    """Free text."""


class JsonObjectFormat(Wire, frozen=True, kw_only=True, tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(Wire, frozen=True, kw_only=True, tag="json_schema"):
    """JSON that fits `schema`."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    schema: Json
    description: str | None = None
    strict: bool | None = None


class TextConfig(Wire, frozen=True, kw_only=True):
    """How the text is to look."""

    format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(Wire, frozen=True, kw_only=True):
    include_obfuscation: bool | None = None


class NestedFunction(Wire, frozen=True, kw_only=True):
    """A function as chat completions have it."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class FunctionTool(Wire, frozen=True, kw_only=True):
    """A function: its members lie flat, or in `function`."""

    type: Literal["function"]
    name: Annotated[str, Meta(min_length=1)] | None = None
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    function: NestedFunction | None = None
    allowed_callers: Refused = None
    defer_loading: Refused = None
    output_schema: Refused = None


class NamedFunction(Wire, frozen=True, kw_only=True):
    name: str


class NamedTool(Wire, frozen=True, kw_only=True, tag="function"):
    """This function must be called: `name` lies flat, or in `function`."""

    name: str | None = None
    function: NamedFunction | None = None


class AllowedTool(Wire, frozen=True, kw_only=True):
    type: Literal["function"]
    name: str


class AllowedTools(Wire, frozen=True, kw_only=True, tag="allowed_tools"):
    """Only these of the tools may, or must, be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1)]


class CreateResponse(Wire, frozen=True, kw_only=True):
    """POST responses. `model` is checked by hand: its absence has words of its own."""

    model: str | None = None
    input: str | Annotated[list[Json], Meta(min_length=1)] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[Json] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: Effort | None = None
    max_output_tokens: AtLeastOne | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[str] | None = None
    stream: bool | None = None
    store: bool | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    service_tier: Literal["auto", "default", "flex", "fast", "priority", "scale"] | None = None

    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    max_tool_calls: AtLeastOne | None = None

    conversation: Refused = None
    prompt: Refused = None
    context_management: Refused = None
    prompt_cache_options: Refused = None
    background_options: Refused = None
    moderation: Refused = None
    access_programs: Refused = None
    image: Refused = None


class InputText(Wire, frozen=True, kw_only=True, tag="input_text"):
    text: str


class ChatText(Wire, frozen=True, kw_only=True, tag="text"):
    """The same, as chat completions have it."""

    text: str


class OutputText(Wire, frozen=True, kw_only=True, tag="output_text"):
    """What the model said before; its last two members are echoes."""

    text: str
    annotations: list[Json] | None = None
    logprobs: list[Json] | None = None


class RefusalText(Wire, frozen=True, kw_only=True, tag="refusal"):
    refusal: str


class InputImage(Wire, frozen=True, kw_only=True, tag="input_image"):
    """`image_url` is a data URI."""

    image_url: str | None = None
    detail: str | None = None
    file_id: Refused = None


class ImageURL(Wire, frozen=True, kw_only=True):
    url: str
    detail: str | None = None


class ChatImage(Wire, frozen=True, kw_only=True, tag="image_url"):
    """The same, as chat completions have it."""

    image_url: str | ImageURL


class Sound(Wire, frozen=True, kw_only=True):
    """Base64 of a sound file."""

    data: str
    format: Literal["wav", "mp3"]


class InputAudio(Wire, frozen=True, kw_only=True, tag="input_audio"):
    input_audio: Sound


Part = InputText | ChatText | OutputText | RefusalText | InputImage | ChatImage | InputAudio
Content = str | Annotated[list[Part], Meta(min_length=1)]


class MessageItem(Wire, frozen=True, kw_only=True, tag="message"):
    role: Literal["user", "system", "developer", "assistant"]
    content: Content
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Wire, frozen=True, kw_only=True, tag="function_call"):
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionOutputItem(Wire, frozen=True, kw_only=True, tag="function_call_output"):
    call_id: str
    output: Content
    id: str | None = None
    status: Status | None = None


class SummaryText(Wire, frozen=True, kw_only=True, tag="summary_text"):
    text: str


class ReasoningText(Wire, frozen=True, kw_only=True, tag="reasoning_text"):
    text: str


class ReasoningItem(Wire, frozen=True, kw_only=True, tag="reasoning"):
    """What the model thought before: `content`, else `encrypted_content`, else `summary`."""

    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: Status | None = None


class ItemReference(Wire, frozen=True, kw_only=True, tag="item_reference"):
    """An item of a stored response, by its id."""

    id: str


Item = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem | ItemReference
ITEM_TYPES = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


class Retrieve(msgspec.Struct, frozen=True, kw_only=True):
    """The query of GET responses/{id}; with `stream` the events behind `starting_after`."""

    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0)] | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The query of GET responses/{id}/input_items: the items behind `after`."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
