"""A conversation to a prompt, and how its answer is read and constrained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.errors import RequestError, Unsupported
from shared.messages import Message
from shared.requests import Chat, Generate, Grammar
from workers.engine.constraints import MaskFactory
from workers.engine.thinking import thinking_masks, triggered_masks
from workers.prompt import thoughts, tools
from workers.prompt.families import HARMONY
from workers.prompt.messages import to_template, tool_definition
from workers.prompt.model_text import ModelText
from workers.text.reader import PlainReader, Reader
from workers.text.reasoning import ThinkReader
from workers.text.toolcalls.formats import FORMATS, Format
from workers.text.toolcalls.grammar import PROSE, forced_calls, opened_calls
from workers.text.toolcalls.harmony import HarmonyReader
from workers.text.toolcalls.reader import CallReader

RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})


def render(chat: Chat, model: ModelText, *, now_s: float) -> str:
    """The prompt of a conversation as the model's template writes it.

    Raises BadTemplate, Unsupported (images, audio, options the template does not read) and
    RequestError (no messages, contradictory tools).
    """
    if model.template_error is not None:
        raise model.template_error
    if not chat.messages:
        raise RequestError("messages: there are none", param="messages")
    tools.check(chat)
    thinking = thoughts.resolve(chat, model)
    messages = chat.messages
    offered = tools.offered(chat)
    if not model.quirks.tools and (offered or any(_tool_turn(m) for m in messages)):
        messages = tools.as_text(messages, offered)
    elif not model.quirks.calls:
        messages = tools.calls_as_text(messages, format_of(model))
    variables = {**_options(chat, model), **thinking.variables}
    if model.quirks.tools and offered:
        variables["tools"] = [tool_definition(tool) for tool in offered]
    turns = to_template(messages, model.quirks)
    if chat.continue_final:
        return _continued(turns, messages[-1], model, variables, now_s=now_s)
    text = model.template.render(turns, now_s=now_s, variables=variables)
    return thoughts.close(text, thinking, model)


def _tool_turn(message: Message) -> bool:
    return message.role == "tool" or bool(message.tool_calls)


def _options(chat: Chat, model: ModelText) -> dict[str, Any]:
    """The caller's template variables; those that would change nothing are refused."""
    options = {k: v for k, v in chat.template_options.items() if k not in thoughts.SWITCHES}
    for name in options:
        if name in RESERVED:
            raise Unsupported(f"template_options.{name}", "the request itself says that")
        if name not in model.template.variables:
            raise Unsupported(f"template_options.{name}", "this model's template does not read it")
    return options


def _continued(
    turns: list[dict[str, Any]],
    last: Message,
    model: ModelText,
    variables: dict[str, Any],
    *,
    now_s: float,
) -> str:
    """The prompt up to the end of the last message, which the model goes on with."""
    said = last.text.strip()
    if last.role != "assistant" or not said:
        raise RequestError(
            "messages: only an assistant message with text can be continued", param="messages"
        )
    text = model.template.render(
        turns, now_s=now_s, variables=variables, add_generation_prompt=False
    )
    at = text.rfind(said)
    if at < 0:
        raise Unsupported("continue_final", "the model's template changes the last message")
    return text[:at] + last.text.lstrip()


def format_of(model: ModelText) -> Format:
    """How this model writes tool calls."""
    if model.family.tools == HARMONY or model.quirks.tools:
        return FORMATS[model.family.tools]
    return FORMATS["generic"]


def reader(chat: Chat, text: str, model: ModelText) -> Reader:
    """A fresh reader of the answer to the prompt `text`."""
    if model.family.tools == HARMONY:
        return HarmonyReader()
    offered = tools.offered(chat)
    rest: Reader = PlainReader()
    if offered:
        schemas = {tool.name: tool.parameters for tool in offered}
        rest = CallReader(format_of(model), frozenset(schemas), schemas)
    if model.family.think is None or chat.continue_final:
        return rest
    opening, closing = model.family.think
    return ThinkReader(opening, closing, opened=thoughts.opened(text, model), rest=rest)


def visible(chat: Chat, model: ModelText) -> frozenset[bytes]:
    """Marker tokens the reader of this chat must see."""
    markers: set[str] = set(model.family.think or ())
    if model.family.tools == HARMONY:
        return model.vocab.control_pieces
    if tools.offered(chat):
        form = format_of(model)
        markers |= {*form.markers, *form.inside}
        return frozenset(
            piece
            for piece in model.vocab.control_pieces
            if piece.decode("utf-8", "replace") in markers | _in_header(form)
        )
    return frozenset(marker.encode() for marker in markers)


def _in_header(form: Format) -> set[str]:
    """Markers inside a header or a section, which the grammar's template spells out."""
    known = ("[ARGS]", "[CALL_ID]", "<｜tool▁sep｜>", "<|tool_call_argument_begin|>")  # noqa: RUF001
    return set(known) if form.header else set()


def constrain(request: Generate, chat: Chat, text: str, model: ModelText) -> MaskFactory | None:
    """Masks for what is asked of the answer, its tool calls and its reasoning; None for nothing."""
    thinking = thoughts.resolve(chat, model)
    forced = chat.tool_choice.mode in ("required", "named")
    inner = _answer(request, chat, model, forced=forced)
    facts = None
    if not chat.continue_final:
        facts = thoughts.mask_facts(text, thinking, model, tools=bool(tools.offered(chat)))
    if facts is None or (inner is None and facts.budget is None):
        return inner
    if model.family.tools == HARMONY and forced:
        return inner
    return thinking_masks(model.vocab, facts, inner)


def _answer(request: Generate, chat: Chat, model: ModelText, *, forced: bool) -> MaskFactory | None:
    """Masks of the answer alone: calls if they are forced; with tools, calls or what is asked."""
    offered, asked = tools.offered(chat), request.constraint
    if not offered:
        return model.compiler.compile(asked) if asked is not None else None
    if not forced and asked is None:
        return _strict(chat, model) if any(tool.strict for tool in offered) else None
    calls = _calls(chat, model, forced_calls)
    if forced or asked is None:
        return model.compiler.compile(calls, param="tools")
    if model.family.tools == HARMONY:
        raise Unsupported("response_format", "not together with tools for this model")
    return model.compiler.either((calls, "tools"), (asked, "response_format"))


def _strict(chat: Chat, model: ModelText) -> MaskFactory:
    """Words are free; a call, once begun, must be valid."""
    form = format_of(model)
    if form.bare:
        calls = _calls(chat, model, forced_calls)
        return model.compiler.either((calls, "tools"), (PROSE, "tools"))
    calls = _calls(chat, model, opened_calls)
    return triggered_masks(model.vocab, form.openers, model.compiler.compile(calls, param="tools"))


def _calls(chat: Chat, model: ModelText, make: Callable[..., Grammar]) -> Grammar:
    return make(
        format_of(model),
        tools.offered(chat),
        parallel=chat.tool_choice.parallel,
        special=model.special,
    )
