"""What OpenAI clients send. Every field here is honoured, without effect, or refused by name.

Null means absent everywhere, as clients send it. What is not declared is refused as unknown.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.body import TOKEN_KEYS

INT64 = Meta(ge=-(2**63), le=2**63 - 1)

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
AtLeastOne = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Window = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is decoded strictly."""


class ImageURL(Wire, frozen=True, kw_only=True):
    """`url` is a data URI; `detail` has no effect."""

    url: str
    detail: str | None = None


class InputAudio(Wire, frozen=True, kw_only=True):
    """Base64 of a sound file."""

    data: str
    format: Literal["wav", "mp3"]


class TextPart(Wire, frozen=True, kw_only=True, tag="text"):
    text: str


class RefusalPart(Wire, frozen=True, kw_only=True, tag="refusal"):
    refusal: str


class ImagePart(Wire, frozen=True, kw_only=True, tag="image_url"):
    image_url: ImageURL


class AudioPart(Wire, frozen=True, kw_only=True, tag="input_audio"):
    input_audio: InputAudio


class FilePart(Wire, frozen=True, kw_only=True, tag="file"):
    """Refused: no local model reads files."""

    file: dict[str, Any]


ContentPart = TextPart | RefusalPart | ImagePart | AudioPart | FilePart
Content = str | Annotated[list[ContentPart], Meta(min_length=1)]


class FunctionCall(Wire, frozen=True, kw_only=True):
    name: str
    arguments: str


class ToolCall(Wire, frozen=True, kw_only=True):
    """A call the model made; `index` is what clients echo from a stream."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"
    index: int | None = None


class SystemMessage(Wire, frozen=True, kw_only=True, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class DeveloperMessage(Wire, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    content: Content
    name: str | None = None


class UserMessage(Wire, frozen=True, kw_only=True, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class AssistantMessage(Wire, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """`reasoning_content` (or `reasoning`) goes to the template; the last four are echoes."""

    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None


class ToolMessage(Wire, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class Function(Wire, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Wire, frozen=True, kw_only=True, tag="function"):
    function: Function


class CustomTool(Wire, frozen=True, kw_only=True, tag="custom"):
    """Refused: tools take JSON here."""

    custom: dict[str, Any]


class NamedFunction(Wire, frozen=True, kw_only=True):
    name: str


class NamedTool(Wire, frozen=True, kw_only=True, tag="function"):
    function: NamedFunction


class SchemaFormat(Wire, frozen=True, kw_only=True):
    """`name` and `description` have no effect; `strict` is always so here."""

    name: str | None = None
    schema: dict[str, Any] | bool | None = None
    description: str | None = None
    strict: bool | None = None


class TextFormat(Wire, frozen=True, kw_only=True, tag="text"):
    """Free text."""


class JsonObjectFormat(Wire, frozen=True, kw_only=True, tag="json_object"):
    """Any JSON object; with `schema`, as llama-server has it, one that fits."""

    schema: dict[str, Any] | None = None


class JsonSchemaFormat(Wire, frozen=True, kw_only=True, tag="json_schema"):
    json_schema: SchemaFormat


class RegexFormat(Wire, frozen=True, kw_only=True, tag="regex"):
    """Text that matches as a whole; an addition of ours."""

    pattern: str


class GrammarFormat(Wire, frozen=True, kw_only=True, tag="grammar"):
    """Text in the language of a Lark or GBNF grammar; an addition of ours."""

    grammar: str
    syntax: Literal["lark", "gbnf"] = "lark"


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | GrammarFormat


class StreamOptions(Wire, frozen=True, kw_only=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Lora(Wire, frozen=True, kw_only=True):
    """One adapter, by its name or, as llama-server has it, by its place in the model's list."""

    scale: Annotated[float, Meta(ge=-10, le=10)]
    id: Count | None = None
    name: Annotated[str, Meta(min_length=1)] | None = None


class Generation(Wire, frozen=True, kw_only=True):
    """What chat and completions share. The first block is OpenAI's, the second llama-server's and
    vLLM's, the third has no effect."""

    model: Annotated[str, Meta(min_length=1)]
    max_tokens: AtLeastOne | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, INT64] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], TOKEN_KEYS] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = None

    top_k: Window | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    top_n_sigma: float | None = None
    repeat_penalty: Positive | None = None
    repetition_penalty: Positive | None = None
    repeat_last_n: Window | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    dynatemp_range: Annotated[float, Meta(ge=0)] | None = None
    dynatemp_exponent: float | None = None
    dry_multiplier: Annotated[float, Meta(ge=0)] | None = None
    dry_base: float | None = None
    dry_allowed_length: Count | None = None
    dry_penalty_last_n: Window | None = None
    dry_sequence_breakers: list[str] | None = None
    xtc_probability: Probability | None = None
    xtc_threshold: Probability | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | bool | None = None
    guided_json: dict[str, Any] | bool | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Meta(min_length=1)] | None = None
    guided_grammar: str | None = None
    response_format: ResponseFormat | None = None
    lora: Annotated[list[Lora], Meta(max_length=16)] | None = None

    user: str | None = None
    cache_prompt: bool | None = None


class ChatRequest(Generation, frozen=True, kw_only=True):
    """POST /v1/chat/completions. OpenAI's fields; engines' fields; fields without effect; fields
    that are refused unless they say what is the case anyway."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: AtLeastOne | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None

    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_budget: Annotated[int, Meta(ge=-1)] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    metadata: dict[str, str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prediction: dict[str, Any] | None = None

    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    moderation: dict[str, Any] | None = None
    prompt_cache_options: dict[str, Any] | None = None


class CompletionRequest(Generation, frozen=True, kw_only=True):
    """POST /v1/completions. `prompt`: a text, token ids, or several of either."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    best_of: Annotated[int, Meta(ge=1)] | None = None
