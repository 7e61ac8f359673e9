"""What Responses clients get: the response, its items, and the events of its stream.

Every member the official types require is always there; what has no value is null. Items and events
are told apart by `type`, which is the Struct's tag.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.dialects.openai.answers import TokenLogprob

Status = Literal["in_progress", "completed", "incomplete"]
Ending = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base: nothing is left out."""


class OutputText(Answer, frozen=True, kw_only=True, tag="output_text"):
    text: str
    annotations: tuple[()] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningText(Answer, frozen=True, kw_only=True, tag="reasoning_text"):
    text: str


class SummaryText(Answer, frozen=True, kw_only=True, tag="summary_text"):
    text: str


class Message(Answer, frozen=True, kw_only=True, tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    status: Status
    content: tuple[OutputText, ...] = ()


class Reasoning(Answer, frozen=True, kw_only=True, tag="reasoning"):
    """`encrypted_content` is left out unless it was asked for."""

    id: str
    status: Status
    summary: tuple[SummaryText, ...] = ()
    content: tuple[ReasoningText, ...] = ()
    encrypted_content: str | msgspec.UnsetType | None = msgspec.UNSET


class FunctionCall(Answer, frozen=True, kw_only=True, tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


Item = Message | Reasoning | FunctionCall


class InputDetails(Answer, frozen=True, kw_only=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Answer, frozen=True, kw_only=True):
    reasoning_tokens: int


class Usage(Answer, frozen=True, kw_only=True):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ErrorBody(Answer, frozen=True, kw_only=True):
    """Docker Model Runner's two members, and the two more that OpenAI's clients look at."""

    code: str
    message: str
    type: str
    param: str | None


class Incomplete(Answer, frozen=True, kw_only=True):
    reason: Literal["max_output_tokens"]


class Effort(Answer, frozen=True, kw_only=True):
    effort: str | None
    summary: str | None


class Response(Answer, frozen=True, kw_only=True):
    """A response, whole or growing. `output_text` and `reasoning_effort` are Docker's."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Ending = "in_progress"
    background: bool = False
    error: ErrorBody | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: tuple[Item, ...] = ()
    output_text: str = ""
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Effort
    reasoning_effort: str | None
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: tuple[dict[str, Any], ...]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: Usage | None = None
    user: str | None


class Deleted(Answer, frozen=True, kw_only=True):
    id: str
    object: Literal["response.deleted"] = "response.deleted"
    deleted: Literal[True] = True


class Numbered(Answer, frozen=True, kw_only=True):
    """Base of all events; they are counted from 0."""

    sequence_number: int


class OfResponse(Numbered, frozen=True, kw_only=True):
    response: Response


class Created(OfResponse, frozen=True, kw_only=True, tag="response.created"):
    """The first event."""


class Queued(OfResponse, frozen=True, kw_only=True, tag="response.queued"):
    """The second, of one in the background."""


class InProgress(OfResponse, frozen=True, kw_only=True, tag="response.in_progress"):
    """A worker has it."""


class Completed(OfResponse, frozen=True, kw_only=True, tag="response.completed"):
    """The last, of a response that went well."""


class IncompleteEnd(OfResponse, frozen=True, kw_only=True, tag="response.incomplete"):
    """The last, of one that was cut."""


class FailedEnd(OfResponse, frozen=True, kw_only=True, tag="response.failed"):
    """The last, of one that failed; an `Error` comes before it."""


class Error(Numbered, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    param: str | None


class OfItem(Numbered, frozen=True, kw_only=True):
    output_index: int
    item: Item


class ItemAdded(OfItem, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins."""


class ItemDone(OfItem, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item is whole."""


class InItem(Numbered, frozen=True, kw_only=True):
    item_id: str
    output_index: int


class InPart(InItem, frozen=True, kw_only=True):
    content_index: int = 0


class PartAdded(InPart, frozen=True, kw_only=True, tag="response.content_part.added"):
    part: OutputText | ReasoningText


class PartDone(InPart, frozen=True, kw_only=True, tag="response.content_part.done"):
    part: OutputText | ReasoningText


class TextDelta(InPart, frozen=True, kw_only=True, tag="response.output_text.delta"):
    delta: str
    logprobs: tuple[TokenLogprob, ...] = ()


class TextDone(InPart, frozen=True, kw_only=True, tag="response.output_text.done"):
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(InPart, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    delta: str


class ReasoningDone(InPart, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    text: str


class InSummary(InItem, frozen=True, kw_only=True):
    summary_index: int = 0


class SummaryAdded(
    InSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_part.added"
):
    part: SummaryText


class SummaryDelta(
    InSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_text.delta"
):
    delta: str


class SummaryDone(InSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_text.done"):
    text: str


class SummaryPartDone(
    InSummary, frozen=True, kw_only=True, tag="response.reasoning_summary_part.done"
):
    part: SummaryText


class ArgumentsDelta(
    InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    delta: str


class ArgumentsDone(InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str
