"""From a request to what the engine needs: prompt tokens, and how tokens become events again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.errors import ContextTooLong, RequestError, Unsupported
from shared.requests import Chat, Generate, Prompt
from workers.engine.doors import TextPipeline
from workers.prompt.messages import to_template
from workers.prompt.model_text import ModelText
from workers.text.pipeline import Pipeline
from workers.text.reader import PlainReader, Reader
from workers.text.reasoning import ThinkReader


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request, ready for the engine. `pipeline` makes a fresh one for a choice (from 0)."""

    prompt: tuple[int, ...]
    pipeline: Callable[[int], TextPipeline]
    stops: tuple[str, ...] = ()


def prepare(request: Generate, model: ModelText, *, now_s: float, context: int = 0) -> Prepared:
    """Plan a request. `now_s` is when the job was enqueued (Unix seconds): templates may show the
    date, and a successor must get the same prompt. `context` in tokens; 0 = the model's own.

    Raises shared.errors.RequestError and its kind: Unsupported, BadTemplate, ContextTooLong.
    """
    match request.input:
        case Chat() as chat:
            prepared = _chat(request, chat, model, now_s=now_s)
        case Prompt() as prompt:
            prepared = _raw(request, prompt, model)
    limit = context or model.facts.context_length
    if limit and len(prepared.prompt) >= limit:
        raise ContextTooLong.of(prompt_tokens=len(prepared.prompt), context=limit)
    if not prepared.prompt:
        raise RequestError("the prompt is empty", param="prompt")
    return prepared


def _chat(request: Generate, chat: Chat, model: ModelText, *, now_s: float) -> Prepared:
    if model.template_error is not None:
        raise model.template_error
    if chat.tools and chat.tool_choice.mode != "none":
        raise Unsupported("tools", "not yet")
    text = model.template.render(to_template(chat.messages, model.quirks), now_s=now_s)
    opened = model.family.think is not None and text.rstrip().endswith(model.family.think[0])

    def pipeline(choice: int) -> TextPipeline:
        reader: Reader = PlainReader()
        if model.family.think is not None:
            reader = ThinkReader(*model.family.think, opened=opened, rest=reader)
        return Pipeline(
            job=request.id,
            choice=choice,
            reader=reader,
            stops=request.stop,
            hidden=model.vocab.control_pieces,
        )

    return Prepared(prompt=tokens_of_prompt(model, text), pipeline=pipeline, stops=request.stop)


def tokens_of_prompt(model: ModelText, text: str) -> tuple[int, ...]:
    """A rendered chat's tokens; BOS once, whether the template writes it or the vocabulary adds it."""
    bos = model.vocab.text(model.vocab.bos)
    has_bos = bool(bos) and text.startswith(bos)
    return model.vocab.tokenize(text, add_special=not has_bos, parse_special=True)


def _raw(request: Generate, prompt: Prompt, model: ModelText) -> Prepared:
    if prompt.suffix is not None:
        raise Unsupported("suffix", "not yet")
    tokens = prompt.tokens
    if tokens is None:
        tokens = model.vocab.tokenize(prompt.text or "", add_special=True, parse_special=True)
    echo = model.vocab.detokenize(tokens).decode("utf-8", "replace") if prompt.echo else ""

    def pipeline(choice: int) -> TextPipeline:
        return Pipeline(
            job=request.id,
            choice=choice,
            stops=request.stop,
            hidden=model.vocab.control_pieces,
            prefix=echo,
        )

    return Prepared(prompt=tokens, pipeline=pipeline, stops=request.stop)
