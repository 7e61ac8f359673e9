"""A conversation to a prompt, and how its answer is read and constrained."""

from __future__ import annotations

from typing import Any

from shared.errors import RequestError, Unsupported
from shared.messages import Message
from shared.requests import Chat, Constraint, Generate, JsonObject, JsonSchema
from workers.engine.constraints import MaskFactory
from workers.engine.thinking import thinking_masks
from workers.prompt import thoughts, tools
from workers.prompt.families import HARMONY
from workers.prompt.messages import to_template, tool_definition
from workers.prompt.model_text import ModelText
from workers.text.reader import PlainReader, Reader
from workers.text.reasoning import ThinkReader
from workers.text.toolcalls.formats import FORMATS, Format
from workers.text.toolcalls.grammar import calls_or, forced_calls
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
        rest = CallReader(format_of(model), frozenset(tool.name for tool in offered))
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
    constraint, param = _constraint(request, chat, model)
    inner = model.compiler.compile(constraint, param=param) if constraint is not None else None
    facts = None if chat.continue_final else thoughts.mask_facts(text, thinking, model)
    if facts is None or (inner is None and facts.budget is None):
        return inner
    if model.family.tools == HARMONY and param == "tools":
        return inner
    return thinking_masks(model.vocab, facts, inner)


def _constraint(request: Generate, chat: Chat, model: ModelText) -> tuple[Constraint | None, str]:
    """The one constraint that says all, and the field to blame if it cannot be used."""
    offered, form = tools.offered(chat), format_of(model)
    parallel = chat.tool_choice.parallel
    if offered and chat.tool_choice.mode in ("required", "named"):
        forced = forced_calls(form, offered, parallel=parallel, special=model.special)
        return forced, "tools"
    if not offered or request.constraint is None or model.family.tools == HARMONY:
        return request.constraint, "response_format"
    if isinstance(request.constraint, JsonObject | JsonSchema):
        either = calls_or(
            form, offered, request.constraint, parallel=parallel, special=model.special
        )
        return either, "response_format"
    raise Unsupported("response_format", "a grammar and tools cannot be used together")
