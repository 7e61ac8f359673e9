"""/tokenize, /detokenize and /apply-template, each as llama-server or vLLM, by what is sent. Pure.

llama-server sends `content`, vLLM `prompt` or `messages`. llama-server has one model and names
none: without `model` the only one of the catalog is meant.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.completed import Completed
from api.dialects.openai import parse
from api.dialects.openai import types as wire
from api.dialects.openai.render import encode
from shared import refs
from shared.errors import Internal, RequestError, Unsupported
from shared.events import Tokens
from shared.presence import ModelCard
from shared.requests import Chat, Detokenize, Prompt, Tokenize

Messages = Annotated[list[wire.Message], Meta(min_length=1)]


class TokenizeRequest(wire.Wire, frozen=True, kw_only=True):
    """llama-server's four fields, then vLLM's."""

    model: str | None = None
    content: str | None = None
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    prompt: str | None = None
    messages: Messages | None = None
    tools: list[wire.FunctionTool | wire.CustomTool] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    return_token_strs: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(wire.Wire, frozen=True, kw_only=True):
    """Token ids; the answer's text stands under llama-server's and vLLM's name."""

    model: str | None = None
    tokens: list[wire.TokenId]


class TemplateRequest(wire.Wire, frozen=True, kw_only=True):
    """A conversation to render, not to answer."""

    model: str | None = None
    messages: Messages
    tools: list[wire.FunctionTool | wire.CustomTool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A token with its text, or its bytes where they are no text."""

    id: int
    piece: str | list[int]


class Tokenized(msgspec.Struct, frozen=True, kw_only=True):
    """llama-server's answer."""

    tokens: tuple[int | Piece, ...]


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """vLLM's answer."""

    count: int
    max_model_len: int
    tokens: tuple[int, ...]
    token_strs: tuple[str, ...] | None


class Detokenized(msgspec.Struct, frozen=True, kw_only=True):
    """The text, under both names."""

    content: str
    prompt: str


class Templated(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as the model reads it."""

    prompt: str


def model_of(given: str | None, catalog: dict[str, ModelCard]) -> str:
    """The model meant. Raises RequestError where that is not plain."""
    if given:
        return refs.normalize(given)
    if len(catalog) == 1:
        return next(iter(catalog))
    raise RequestError("model: this field is required, there are several models", param="model")


def tokenizing(asked: TokenizeRequest, *, job: str, model: str) -> Tokenize:
    """The canonical request. llama-server adds special tokens only when told, vLLM unless told not
    to; a conversation's template has its own."""
    given = [asked.content is not None, asked.prompt is not None, asked.messages is not None]
    if sum(given) != 1:
        raise RequestError("content: give one of content, prompt, messages", param="content")
    if asked.messages is not None:
        return Tokenize(id=job, model=model, input=_chat(asked), add_special=False)
    text = asked.content if asked.content is not None else asked.prompt
    special = (
        bool(asked.add_special)
        if asked.content is not None
        else asked.add_special_tokens is not False
    )
    return Tokenize(
        id=job,
        model=model,
        input=Prompt(text=text),
        add_special=special,
        parse_special=asked.parse_special is not False,
    )


def templating(asked: TemplateRequest, *, job: str, model: str) -> Tokenize:
    """Rendering is tokenizing, with the pieces put together again."""
    return Tokenize(id=job, model=model, input=_conversation(asked), add_special=False)


def detokenizing(asked: DetokenizeRequest, *, job: str, model: str) -> Detokenize:
    """The canonical request."""
    return Detokenize(id=job, model=model, tokens=tuple(asked.tokens))


def tokenized(asked: TokenizeRequest, done: Completed, *, context: int) -> bytes:
    """The tokens in the caller's shape; `context` is the model's length."""
    found = tokens_of(done)
    if asked.content is not None:
        return encode(Tokenized(tokens=_pieces(found) if asked.with_pieces else found.ids))
    texts = tuple(piece.decode("utf-8", "replace") for piece in found.pieces)
    return encode(
        Counted(
            count=len(found.ids),
            max_model_len=context,
            tokens=found.ids,
            token_strs=texts if asked.return_token_strs else None,
        )
    )


def detokenized(done: Completed) -> bytes:
    """The text."""
    text = tokens_of(done).text
    return encode(Detokenized(content=text, prompt=text))


def templated(done: Completed) -> bytes:
    """The prompt that the template makes of the conversation."""
    return encode(Templated(prompt=b"".join(tokens_of(done).pieces).decode("utf-8", "replace")))


def tokens_of(done: Completed) -> Tokens:
    """The worker's answer. Raises Internal where there is none."""
    if done.tokens is None:
        raise Internal("the worker answered without tokens")
    return done.tokens


def _pieces(found: Tokens) -> tuple[Piece, ...]:
    """llama-server gives the bytes of a piece that is no text as a list of numbers."""
    return tuple(
        Piece(id=id_, piece=_text_or_bytes(piece))
        for id_, piece in zip(found.ids, found.pieces, strict=True)
    )


def _text_or_bytes(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


def _chat(asked: TokenizeRequest) -> Chat:
    if asked.add_generation_prompt is False and not asked.continue_final_message:
        raise Unsupported(
            "add_generation_prompt", "false only together with continue_final_message: true"
        )
    return _conversation(asked, continue_final=bool(asked.continue_final_message))


def _conversation(
    asked: TokenizeRequest | TemplateRequest, *, continue_final: bool = False
) -> Chat:
    return Chat(
        messages=tuple(
            parse.message(one, f"messages[{n}]") for n, one in enumerate(asked.messages or ())
        ),
        tools=parse.tools(asked.tools),
        template_options=asked.chat_template_kwargs or {},
        continue_final=continue_final,
    )


TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)
TEMPLATE = msgspec.json.Decoder(TemplateRequest)
