"""OpenAI chat requests into the canonical one. Pure; what cannot be honoured is refused by name."""

from __future__ import annotations

import base64
import binascii
from typing import Any, assert_never

from api.dialects.openai import types as wire
from api.dialects.openai.sampling import common
from shared import refs
from shared.errors import RequestError, Unsupported
from shared.messages import Audio, Image, Link, Message, Part, Text, Tool, ToolCall
from shared.requests import Chat, Generate, Thinking, ToolChoice

EFFORTS_THAT_THINK = ("minimal", "low", "medium", "high")
ONLY_DATA = "only data: URIs; this server fetches nothing from the network"
REFUSED = {
    "audio": "no audio is produced",
    "web_search_options": "this server searches nothing",
    "functions": "use tools, which replaced it",
    "function_call": "use tool_choice, which replaced it",
    "moderation": "nothing is moderated here",
    "prompt_cache_options": "prefixes stay cached as long as there is room",
}


def chat(asked: wire.ChatRequest, *, job: str) -> Generate:
    """A chat request as a Generate with id `job`. Raises RequestError, Unsupported."""
    _refuse(asked)
    return Generate(
        id=job,
        model=refs.normalize(asked.model),
        input=Chat(
            messages=tuple(message(one, f"messages[{n}]") for n, one in enumerate(asked.messages)),
            tools=tools(asked.tools),
            tool_choice=tool_choice(asked),
            thinking=thinking(asked),
            template_options=_template_options(asked),
            continue_final=_continues(asked),
        ),
        max_tokens=_max_tokens(asked),
        logprobs=_logprobs(asked),
        **common(asked),
    )


def message(one: wire.Message, where: str) -> Message:
    """One message; `where` names it in complaints."""
    match one:
        case wire.SystemMessage() | wire.DeveloperMessage():
            return Message(role="system", content=content(one.content, where), name=one.name)
        case wire.UserMessage():
            return Message(role="user", content=content(one.content, where), name=one.name)
        case wire.ToolMessage():
            return Message(
                role="tool",
                content=content(one.content, where),
                tool_call_id=one.tool_call_id,
                name=one.name,
            )
        case wire.AssistantMessage():
            return _assistant(one, where)
        case _:
            assert_never(one)


def content(given: wire.Content | None, where: str) -> tuple[Part, ...]:
    """A message's parts; none for null."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (Text(text=given),)
    return tuple(_part(part, f"{where}.content[{n}]") for n, part in enumerate(given))


def tools(given: list[wire.FunctionTool | wire.CustomTool] | None) -> tuple[Tool, ...]:
    """The functions the model may call."""
    return tuple(_tool(tool, f"tools[{n}]") for n, tool in enumerate(given or ()))


def tool_choice(asked: wire.ChatRequest) -> ToolChoice:
    """Whether tools may or must be called, and how many at once."""
    parallel = asked.parallel_tool_calls is not False
    choice = asked.tool_choice
    if choice in ("required",) or isinstance(choice, wire.NamedTool):
        _has_tool(asked, choice.function.name if isinstance(choice, wire.NamedTool) else None)
    if isinstance(choice, wire.NamedTool):
        return ToolChoice(mode="named", name=choice.function.name, parallel=parallel)
    return ToolChoice(mode=choice or "auto", parallel=parallel)


def thinking(asked: wire.ChatRequest) -> Thinking:
    """Effort `none` (and llama-server's budget 0) switch reasoning off."""
    effort, budget = asked.reasoning_effort, asked.reasoning_budget
    enabled: bool | None = None
    if effort is not None:
        enabled = effort != "none"
    if budget is not None and budget >= 0:  # -1: no limit
        enabled = budget > 0
    return Thinking(
        enabled=enabled,
        budget=budget if budget and budget > 0 else None,
        effort=effort if effort in EFFORTS_THAT_THINK else None,  # type: ignore[arg-type]
    )


def image_of(uri: str, param: str) -> Image | Link:
    """An image, there or to be fetched. Raises RequestError naming `param`."""
    if (link := Link.of(uri, param, refusal=ONLY_DATA)) is not None:
        return link
    data, media_type = data_uri(uri, param)
    return Image(data=data, media_type=media_type)


def data_uri(uri: str, param: str) -> tuple[bytes, str]:
    """Bytes and media type of a base64 data URI. Raises RequestError naming `param`."""
    if not uri.startswith("data:"):
        raise Unsupported(param, ONLY_DATA)
    head, comma, body = uri[len("data:") :].partition(",")
    if not comma or not head.endswith(";base64"):
        raise RequestError(f"{param}: a data URI looks like data:image/png;base64,…", param=param)
    return base64_of(body, param), head.removesuffix(";base64") or "application/octet-stream"


def base64_of(text: str, param: str) -> bytes:
    """Strictly decoded base64. Raises RequestError naming `param`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(f"{param}: this is not base64", param=param) from None


def _assistant(one: wire.AssistantMessage, where: str) -> Message:
    if one.content is None and not one.tool_calls and one.refusal is None:
        raise RequestError(
            f"{where}.content: an assistant message needs content or tool_calls",
            param=f"{where}.content",
        )
    return Message(
        role="assistant",
        content=content(one.content if one.content is not None else one.refusal, where),
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in one.tool_calls or ()
        ),
        name=one.name,
        reasoning=one.reasoning_content or one.reasoning,
    )


def _part(part: wire.ContentPart, where: str) -> Part:
    match part:
        case wire.TextPart(text=text) | wire.RefusalPart(refusal=text):
            return Text(text=text)
        case wire.ImagePart(image_url=image):
            return image_of(image.url, f"{where}.image_url.url")
        case wire.AudioPart(input_audio=sound):
            return Audio(
                data=base64_of(sound.data, f"{where}.input_audio.data"), format=sound.format
            )
        case wire.FilePart():
            raise Unsupported(f"{where}.type", "file parts are not supported")
        case _:
            assert_never(part)


def _tool(tool: wire.FunctionTool | wire.CustomTool, where: str) -> Tool:
    if isinstance(tool, wire.CustomTool):
        raise Unsupported(f"{where}.type", "custom tools are not supported, functions are")
    function = tool.function
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=function.parameters or {},
        strict=bool(function.strict),
    )


def _has_tool(asked: wire.ChatRequest, name: str | None) -> None:
    names = {
        tool.function.name for tool in asked.tools or () if isinstance(tool, wire.FunctionTool)
    }
    if not names or (name is not None and name not in names):
        raise RequestError(
            f"tool_choice: there is no tool {name!r} in tools"
            if name
            else "tool_choice: required, but there are no tools",
            param="tool_choice",
        )


def _max_tokens(asked: wire.ChatRequest) -> int | None:
    if asked.max_completion_tokens is not None:
        return asked.max_completion_tokens
    return asked.max_tokens


def _logprobs(asked: wire.ChatRequest) -> int | None:
    if asked.top_logprobs is not None and not asked.logprobs:
        raise RequestError("top_logprobs: needs logprobs: true", param="top_logprobs")
    return (asked.top_logprobs or 0) if asked.logprobs else None


def _template_options(asked: wire.ChatRequest) -> dict[str, Any]:
    return asked.chat_template_kwargs or {}


def _continues(asked: wire.ChatRequest) -> bool:
    """Both names of one wish: go on with the last message instead of answering it."""
    if asked.add_generation_prompt is False and not asked.continue_final_message:
        raise Unsupported(
            "add_generation_prompt", "false only together with continue_final_message: true"
        )
    if asked.continue_final_message and asked.add_generation_prompt:
        raise RequestError(
            "continue_final_message: not together with add_generation_prompt: true",
            param="continue_final_message",
        )
    if asked.continue_final_message and asked.messages[-1].__class__ is not wire.AssistantMessage:
        raise RequestError(
            "continue_final_message: the last message is not the assistant's",
            param="continue_final_message",
        )
    return bool(asked.continue_final_message)


def _refuse(asked: wire.ChatRequest) -> None:
    """What is declared only so that it can be refused with a reason."""
    if asked.modalities is not None and asked.modalities != ["text"]:
        raise Unsupported("modalities", 'only ["text"] is produced')
    if asked.verbosity not in (None, "medium"):
        raise Unsupported("verbosity", "no local model has such a setting")
    for name, why in REFUSED.items():
        if getattr(asked, name) is not None:
            raise Unsupported(name, why)
