"""From a request to what the engine needs: prompt tokens, and how tokens become events again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from shared.errors import ContextTooLong, RequestError, Unsupported
from shared.messages import Audio, Image
from shared.requests import Chat, Generate, Prompt
from workers.engine import limits
from workers.engine.constraints import MaskFactory
from workers.engine.doors import TextPipeline
from workers.prompt import attachments
from workers.prompt import chat as chats
from workers.prompt.model_text import ModelText
from workers.text.pipeline import Pipeline

MAX_STOPS = 32
MAX_STOP_CHARS = 256


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request, ready for the engine. `pipeline` and `mask` make fresh ones for a choice (from 0).

    Both rebuild their state from a journal's tokens: the same tokens, the same events and masks.
    `parts` are what the prompt's placeholders stand for, still to be encoded.
    """

    prompt: tuple[int, ...]
    pipeline: Callable[[int], TextPipeline]
    mask: MaskFactory | None = None
    stops: tuple[str, ...] = ()
    parts: tuple[Image | Audio, ...] = ()


def prepare(request: Generate, model: ModelText, *, now_s: float, context: int = 0) -> Prepared:
    """Plan a request; milliseconds of work, not for the engine's thread or an event loop.

    `now_s` is when the job was enqueued (Unix seconds): templates may show the date, and a
    successor must get the same prompt. `context` in tokens; 0 = the model's own.
    Raises shared.errors.RequestError and its kind: Unsupported, BadTemplate, ContextTooLong.
    """
    _check_stops(request.stop)
    limits.check(request.sampling, n_vocab=model.vocab.n_vocab)
    limit = context or model.facts.context_length
    match request.input:
        case Chat() as chat:
            prepared = _chat(request, chat, model, now_s=now_s, limit=limit)
        case Prompt() as prompt:
            _check_length(prompt.text or "", model, limit)
            prepared = _raw(request, prompt, model)
    if limit and len(prepared.prompt) >= limit:
        raise ContextTooLong.of(prompt_tokens=len(prepared.prompt), context=limit)
    return prepared


def _check_stops(stops: tuple[str, ...]) -> None:
    """Stop strings are looked for at every token of a shared step."""
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in stops):
        raise RequestError(
            f"stop: at most {MAX_STOPS} strings of at most {MAX_STOP_CHARS} characters",
            param="stop",
        )


def _check_length(text: str, model: ModelText, limit: int) -> None:
    """Refuse what cannot fit before the work of counting it exactly."""
    least = len(text.encode("utf-8", "replace")) // model.vocab.longest_piece_bytes
    if limit and least >= limit:
        raise ContextTooLong(
            f"the prompt has at least {least} tokens and this model's context holds {limit}: "
            "shorten the messages or use a model with a longer context",
            param="messages",
        )


def _chat(request: Generate, chat: Chat, model: ModelText, *, now_s: float, limit: int) -> Prepared:
    parts = attachments.of(chat.messages, model.media)
    sign = attachments.mark(request.id, parts)
    if parts:
        chat = replace(chat, messages=attachments.marked(chat.messages, sign))
    text = chats.render(chat, model, now_s=now_s)
    _check_length(text, model, limit)
    visible = chats.visible(chat, model) | {stop.encode() for stop in request.stop}
    hidden = model.vocab.control_pieces - visible
    one_call = not chat.tool_choice.parallel

    def pipeline(choice: int) -> TextPipeline:
        return Pipeline(
            job=request.id,
            choice=choice,
            reader=chats.reader(chat, text, model),
            stops=request.stop,
            hidden=hidden,
            one_call=one_call,
        )

    return Prepared(
        prompt=_tokens_around(model, attachments.pieces(text, sign, parts), parts),
        pipeline=pipeline,
        mask=chats.constrain(request, chat, text, model),
        stops=request.stop,
        parts=parts,
    )


def _tokens_around(
    model: ModelText, pieces: list[str], parts: tuple[Image | Audio, ...]
) -> tuple[int, ...]:
    """Each piece is tokenised by itself, as mtmd does it."""
    tokens = [*tokens_of(model, pieces[0])]
    for part, piece in zip(parts, pieces[1:], strict=True):
        assert model.media is not None
        tokens += model.media.tokens(part)
        tokens += model.vocab.tokenize(piece, parse_special=True)
    return tuple(tokens)


def tokens_of(model: ModelText, text: str) -> tuple[int, ...]:
    """A rendered chat's tokens. BOS once, whether the template or the vocabulary puts it there."""
    bos = model.vocab.text(model.vocab.bos)
    has_bos = bool(bos) and text.startswith(bos)
    return model.vocab.tokenize(text, add_special=not has_bos, parse_special=True)


def _raw(request: Generate, prompt: Prompt, model: ModelText) -> Prepared:
    if prompt.echo and request.logprobs is not None:
        raise Unsupported("echo", "logprobs of the prompt are not computed")
    tokens = raw_tokens(prompt, model)
    visible = model.vocab.detokenize(t for t in tokens if t not in model.vocab.control)
    constraint = request.constraint
    make = partial(
        Pipeline,
        job=request.id,
        stops=request.stop,
        hidden=model.vocab.control_pieces - {stop.encode() for stop in request.stop},
        prefix=visible.decode("utf-8", "replace") if prompt.echo else "",
    )
    return Prepared(
        prompt=tokens,
        pipeline=lambda choice: make(choice=choice),
        mask=model.compiler.compile(constraint) if constraint is not None else None,
        stops=request.stop,
    )


def raw_tokens(prompt: Prompt, model: ModelText) -> tuple[int, ...]:
    """Tokens of a raw prompt: given, of its text, or arranged for fill-in-the-middle."""
    vocab = model.vocab
    if prompt.suffix is not None:
        return _filling(prompt, prompt.suffix, model)
    if prompt.tokens is None:
        tokens = vocab.tokenize(prompt.text or "", add_special=True, parse_special=True)
        tokens = tokens or ((vocab.bos,) if vocab.bos >= 0 else ())
    else:
        tokens = prompt.tokens
    if not tokens:
        raise RequestError("prompt: it is empty", param="prompt")
    wrong = next((token for token in tokens if not 0 <= token < vocab.n_vocab), None)
    if wrong is not None:
        raise RequestError(
            f"prompt: token {wrong} is not one of the model's {vocab.n_vocab}", param="prompt"
        )
    return tokens


def _filling(prompt: Prompt, suffix: str, model: ModelText) -> tuple[int, ...]:
    """Prefix, suffix, middle: the order all models with these tokens are trained on."""
    vocab = model.vocab
    if vocab.fim is None:
        raise Unsupported("suffix", "this model has no fill-in-the-middle tokens")
    if prompt.echo:
        raise Unsupported("echo", "not together with suffix")
    before = prompt.tokens or vocab.tokenize(prompt.text or "")
    start = (vocab.bos,) if vocab.adds_bos and vocab.bos >= 0 else ()
    behind = vocab.tokenize(suffix)
    return (*start, vocab.fim.prefix, *before, vocab.fim.suffix, *behind, vocab.fim.middle)
