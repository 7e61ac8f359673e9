"""Anthropic's requests as canonical ones. Pure.

What is known and not honoured is refused here by name: `REFUSED` for whole members, the functions
below for single values. The conversation itself is conversation.py's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.dialects.anthropic import types as wire
from api.dialects.anthropic.conversation import messages_of
from shared import refs, requests
from shared.errors import RequestError, Unsupported
from shared.messages import Tool

REFUSED = {
    "container": "no code runs on this server",
    "inference_geo": "this server does not choose where it runs",
    "diagnostics": "no earlier request is kept to compare with",
    "compaction": "conversations are not compacted; shorten the messages",
    "fallbacks": "no other model answers instead",
    "fallback_credit_token": "there are no credits",
    "billing_policy": "nothing is billed",
    "thread": "no conversation is stored; send all messages",
    "mcp_servers": "this server calls no MCP servers; offer their tools as your own",
    "user_profile_id": "there are no user profiles",
    "workspace_id": "there are no workspaces",
}
EFFORT = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
KEEP_ALL_THINKING = ("all", {"type": "all"}, None)


def generate(body: wire.MessageCreate, *, job: str) -> requests.Generate:
    """The canonical request of POST messages. Raises RequestError and its kinds."""
    return requests.Generate(
        id=job,
        model=refs.normalize(body.model),
        input=_chat(body),
        sampling=_sampling(body),
        max_tokens=body.max_tokens,
        stop=body.stop_sequences or (),
        constraint=_constraint(body),
    )


def tokenize(body: wire.CountTokens, *, job: str) -> requests.Tokenize:
    """The canonical request of POST messages/count_tokens."""
    return requests.Tokenize(id=job, model=refs.normalize(body.model), input=_chat(body))


def hides_thinking(body: wire.CountTokens) -> bool:
    """Whether the caller asked not to see what the model thinks."""
    match body.thinking:
        case wire.ThinkingEnabled(display="omitted") | wire.ThinkingAdaptive(display="omitted"):
            return True
        case _:
            return False


def marks_cache(body: wire.CountTokens) -> bool:
    """Whether a `cache_control` stands anywhere, so that written prefixes are to be counted."""
    return body.cache_control is not None or _marked(
        [body.tools, body.system, [turn.content for turn in body.messages]]
    )


def _marked(value: Any) -> bool:
    match value:
        case list() | tuple():
            return any(_marked(item) for item in value)
        case dict():
            return value.get("cache_control") is not None
        case wire.ToolResultBlock(cache_control=None, content=content):
            return _marked(content)
        case _:
            return getattr(value, "cache_control", None) is not None


def _chat(body: wire.CountTokens) -> requests.Chat:
    _refuse_members(body)
    tools = _tools(body.tools or ())
    messages = messages_of(body.system, body.messages)
    return requests.Chat(
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, names={tool.name for tool in tools}),
        thinking=_thinking(body),
        continue_final=messages[-1].role == "assistant",
    )


def _refuse_members(body: wire.CountTokens) -> None:
    for name, why in REFUSED.items():
        if getattr(body, name, None):
            raise Unsupported(name, why)
    if body.speed == "fast":
        raise Unsupported("speed", "there is one speed, 'standard'")
    if body.output_config and body.output_config.task_budget:
        raise Unsupported("output_config.task_budget", "only max_tokens limits an answer")
    if body.context_management:
        _check_edits(body.context_management.edits)


def _check_edits(edits: tuple[dict[str, Any], ...]) -> None:
    """Keeping all thinking is what happens anyway; every other edit is refused."""
    for edit in edits:
        if (kind := edit.get("type")) != "clear_thinking_20251015":
            raise Unsupported("context_management.edits", f"{kind!r} is not done here")
        if edit.get("keep") not in KEEP_ALL_THINKING:
            raise Unsupported("context_management.edits", "all thinking is kept: keep='all'")


def _sampling(body: wire.MessageCreate) -> requests.Sampling:
    asked = {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}
    given = {name: value for name, value in asked.items() if value is not None}
    return msgspec.structs.replace(requests.Sampling(), **given)


def _constraint(body: wire.MessageCreate) -> requests.JsonSchema | None:
    form = body.output_format or (body.output_config and body.output_config.format)
    return requests.JsonSchema(schema=form.schema) if form else None


def _thinking(body: wire.CountTokens) -> requests.Thinking:
    effort: Any = EFFORT.get((body.output_config and body.output_config.effort) or "")
    match body.thinking:
        case wire.ThinkingEnabled(budget_tokens=budget):
            return requests.Thinking(enabled=True, budget=budget, effort=effort)
        case wire.ThinkingAdaptive():
            return requests.Thinking(enabled=True, effort=effort)
        case wire.ThinkingDisabled():
            return requests.Thinking(enabled=False, effort=effort)
        case None:
            return requests.Thinking(effort=effort)


def _tools(given: tuple[dict[str, Any], ...]) -> tuple[Tool, ...]:
    tools = tuple(_tool(tool, at=f"tools.{at}") for at, tool in enumerate(given))
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"tools: the name {name!r} is there twice", param="tools")
    return tools


def _tool(given: dict[str, Any], *, at: str) -> Tool:
    if (kind := given.get("type")) not in (None, "custom"):
        raise Unsupported(f"{at}.type", f"there is no {kind!r} here; describe a tool of your own")
    try:
        tool = msgspec.convert(given, wire.Tool)
    except msgspec.ValidationError as error:
        raise RequestError(f"{at}: {error}", param=at) from error
    if tool.defer_loading:
        raise Unsupported(f"{at}.defer_loading", "all tools are shown to the model at once")
    if tool.allowed_callers and set(tool.allowed_callers) != {"direct"}:
        raise Unsupported(f"{at}.allowed_callers", "only the model itself calls tools: ['direct']")
    return Tool(
        name=tool.name,
        description=tool.description or "",
        parameters=_parameters(tool),
        strict=bool(tool.strict),
    )


def _parameters(tool: wire.Tool) -> dict[str, Any]:
    """The schema; examples go where JSON schema has them, so that the model sees them."""
    if not tool.input_examples:
        return tool.input_schema
    return {**tool.input_schema, "examples": list(tool.input_examples)}


def _tool_choice(choice: wire.ToolChoice | None, *, names: set[str]) -> requests.ToolChoice:
    if isinstance(choice, wire.ChoiceAny) and not names:
        raise RequestError("tool_choice: there are no tools to choose from", param="tool_choice")
    match choice:
        case None:
            return requests.ToolChoice()
        case wire.ChoiceNone():
            return requests.ToolChoice(mode="none")
        case wire.ChoiceAuto(disable_parallel_tool_use=alone):
            return requests.ToolChoice(mode="auto", parallel=not alone)
        case wire.ChoiceAny(disable_parallel_tool_use=alone):
            return requests.ToolChoice(mode="required", parallel=not alone)
        case wire.ChoiceTool(name=name, disable_parallel_tool_use=alone):
            if name not in names:
                raise RequestError(f"tool_choice.name: no tool {name!r}", param="tool_choice.name")
            return requests.ToolChoice(mode="named", name=name, parallel=not alone)
