"""Responses requests into the canonical one. Pure; what cannot be honoured is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec

from api.dialects.responses import types as wire
from api.dialects.responses.items import converted
from shared import refs
from shared.errors import RequestError, Unsupported
from shared.messages import Message, Tool
from shared.requests import (
    Chat,
    Constraint,
    Generate,
    JsonObject,
    JsonSchema,
    Lane,
    Sampling,
    Thinking,
    ToolChoice,
)

LOGPROBS = "message.output_text.logprobs"
SEALED = "reasoning.encrypted_content"
IMAGES = "message.input_image.image_url"  # always there
REFUSED = {
    "conversation": "conversations are not kept here; previous_response_id continues a response",
    "prompt": "no prompts are kept here",
    "context_management": "conversations are not compacted; shorten the input",
    "prompt_cache_options": "prefixes stay cached as long as there is room",
    "background_options": "jobs in the background are like all others",
    "moderation": "nothing is moderated here",
    "access_programs": "there are none here",
    "image": "images are given to the model as they are",
}


def check(asked: wire.CreateResponse) -> None:
    """Refuse what is not honoured, before anything is looked up. Raises RequestError."""
    if not asked.model:
        raise RequestError("model is required", param="model")
    for name, why in REFUSED.items():
        if getattr(asked, name) is not None:
            raise Unsupported(name, why)
    if asked.background and asked.store is False:
        raise Unsupported("background", "only what is stored can be come back for; store must be")
    if asked.truncation == "auto":
        raise Unsupported("truncation", "input that is too long is an error, never cut")
    if asked.text and asked.text.verbosity not in (None, "medium"):
        raise Unsupported("text.verbosity", "no local model has such a setting")
    _check_reasoning(asked.reasoning)
    _check_stream_options(asked)
    for name in asked.include or ():
        if name not in (LOGPROBS, SEALED, IMAGES):
            raise Unsupported("include", f"there is no {name!r} here to include")


def generate(asked: wire.CreateResponse, *, job: str, messages: tuple[Message, ...]) -> Generate:
    """The request as a Generate with id `job`. Raises RequestError, Unsupported."""
    found = tools(asked)
    return Generate(
        id=job,
        model=refs.normalize(asked.model or ""),
        input=Chat(
            messages=messages,
            tools=_allowed(asked, found),
            tool_choice=_tool_choice(asked, found),
            thinking=_thinking(asked),
        ),
        sampling=_sampling(asked),
        max_tokens=asked.max_output_tokens,
        logprobs=_logprobs(asked),
        constraint=_constraint(asked.text),
        lane=_lane(asked.service_tier),
    )


def tools(asked: wire.CreateResponse) -> tuple[Tool, ...]:
    """The functions the model may call, however they were written."""
    return tuple(_tool(tool, f"tools[{n}]") for n, tool in enumerate(asked.tools or ()))


def includes(asked: wire.CreateResponse, name: str) -> bool:
    """Whether the answer is to have this."""
    return name in (asked.include or ())


def summarises(asked: wire.CreateResponse) -> bool:
    """Whether the reasoning is wanted as a summary."""
    wanted = asked.reasoning
    return bool(wanted and (wanted.summary or wanted.generate_summary))


def _check_reasoning(wanted: wire.Reasoning | None) -> None:
    if wanted is None:
        return
    if wanted.context is not None:
        raise Unsupported("reasoning.context", "all reasoning in the input goes to the template")
    if wanted.mode is not None:
        raise Unsupported("reasoning.mode", "there is one mode; effort and budget change it")


def _check_stream_options(asked: wire.CreateResponse) -> None:
    if asked.stream_options is None:
        return
    if not asked.stream:
        raise RequestError("stream_options: only with stream: true", param="stream_options")
    if asked.stream_options.include_obfuscation:
        raise Unsupported("stream_options.include_obfuscation", "streams are not padded")


def _tool(given: dict[str, Any], where: str) -> Tool:
    kind = given.get("type")
    if kind != "function":
        raise Unsupported(f"{where}.type", f"tools of type {kind!r} are not hosted; functions are")
    tool = converted(given, wire.FunctionTool, where)
    for name in ("allowed_callers", "defer_loading", "output_schema"):
        if getattr(tool, name) is not None:
            raise Unsupported(f"{where}.{name}", "functions are called by the model alone")
    function: wire.FunctionTool | wire.NestedFunction = tool.function or tool
    if not function.name:
        raise RequestError(f"{where}.name: this field is required", param=f"{where}.name")
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
        strict=bool(function.strict),
    )


def _allowed(asked: wire.CreateResponse, found: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """With `allowed_tools` the model is shown no others."""
    if not isinstance(asked.tool_choice, wire.AllowedTools):
        return found
    names = {tool.name for tool in asked.tool_choice.tools}
    if missing := sorted(names - {tool.name for tool in found}):
        raise RequestError(
            f"tool_choice.tools: there is no tool {missing[0]!r} in tools",
            param="tool_choice.tools",
        )
    return tuple(tool for tool in found if tool.name in names)


def _tool_choice(asked: wire.CreateResponse, found: tuple[Tool, ...]) -> ToolChoice:
    parallel = asked.parallel_tool_calls is not False
    match asked.tool_choice:
        case wire.NamedTool() as choice:
            name = choice.function.name if choice.function else choice.name
            if name not in {tool.name for tool in found}:
                raise RequestError(
                    f"tool_choice: there is no tool {name!r} in tools", param="tool_choice"
                )
            return ToolChoice(mode="named", name=name, parallel=parallel)
        case wire.AllowedTools(mode=mode):
            return ToolChoice(mode=mode, parallel=parallel)
        case "required" if not found:
            raise RequestError("tool_choice: required, but there are no tools", param="tool_choice")
        case mode:
            return ToolChoice(mode=mode or "auto", parallel=parallel)


def effort(asked: wire.CreateResponse) -> wire.Effort | None:
    """How hard to think, under either of its names."""
    nested = asked.reasoning.effort if asked.reasoning else None
    return nested or asked.reasoning_effort


def _thinking(asked: wire.CreateResponse) -> Thinking:
    match effort(asked):
        case None:
            return Thinking()
        case "none":
            return Thinking(enabled=False)
        case "xhigh" | "max":
            return Thinking(enabled=True, effort="high")
        case wanted:
            return Thinking(enabled=True, effort=wanted)


def _sampling(asked: wire.CreateResponse) -> Sampling:
    given = {"temperature": asked.temperature, "top_p": asked.top_p}
    found = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(Sampling(), **found)


def _logprobs(asked: wire.CreateResponse) -> int | None:
    if includes(asked, LOGPROBS) or asked.top_logprobs:
        return asked.top_logprobs or 0
    return None


def _constraint(text: wire.TextConfig | None) -> Constraint | None:
    match text.format if text else None:
        case None | wire.TextFormat():
            return None
        case wire.JsonObjectFormat():
            return JsonObject()
        case wire.JsonSchemaFormat(schema=schema):
            return JsonSchema(schema=schema)


def _lane(tier: str | None) -> Lane:
    match tier:
        case "flex":
            return "batch"
        case None | "auto" | "default":
            return "interactive"
        case _:
            raise Unsupported("service_tier", f"there is no tier {tier!r} here")
