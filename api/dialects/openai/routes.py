"""Where OpenAI clients knock: /v1, /engines/v1, /engines/llama.cpp/v1."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from api import body, streaming
from api.dialects.anthropic import catalog as anthropic
from api.dialects.dialect import Dialect
from api.dialects.openai import answers, completions, embeddings, models, parse, render
from api.dialects.openai.adapters import list_adapters
from api.dialects.openai.embeddings import EmbeddingRequest
from api.dialects.openai.errors import ErrorAnswer, respond
from api.dialects.openai.extras import EXTRAS, rerank, score
from api.dialects.openai.types import ChatRequest, CompletionRequest, Generation
from api.faults import HTTPRequest
from api.openapi import described
from api.service import new_id, service_of
from shared.errors import NotFound
from shared.requests import Generate

JSON = "application/json"
SSE = "text/event-stream"
ANTHROPIC_VERSION = "anthropic-version"
BACKENDS = ("llama.cpp",)

_chat = msgspec.json.Decoder(ChatRequest)
_text = msgspec.json.Decoder(CompletionRequest)
_embed = msgspec.json.Decoder(EmbeddingRequest)


@post(
    "/chat/completions",
    status_code=200,
    opt=described(answers.ChatCompletion, takes=ChatRequest, streams=SSE),
)
async def chat_completions(request: HTTPRequest) -> Response[bytes]:
    """A chat answer, whole or as a stream of chunks."""
    wire = await body.read(request, _chat)
    asked = parse.chat(wire, job=new_id("chatcmpl-"))
    head = _head(wire, asked)
    service = service_of(request)
    if wire.stream:
        return await streaming.sse(request, service, asked, render.ChatStream(head))
    done = await streaming.whole(request, service, asked)
    return Response(render.chat(head, done), media_type=JSON)


@post(
    "/completions",
    status_code=200,
    opt=described(answers.TextCompletion, takes=CompletionRequest, streams=SSE),
)
async def text_completions(request: HTTPRequest) -> Response[bytes]:
    """What follows a prompt, or each of several."""
    wire = await body.read(request, _text)
    asked = completions.parse(wire, job=new_id("cmpl-"))
    head = _head(wire, asked[0])
    service = service_of(request)
    if wire.stream:
        return await streaming.sse(request, service, asked[0], completions.TextStream(head))
    done = await streaming.wholes(request, service, asked)
    return Response(completions.whole(head, done), media_type=JSON)


@post(
    "/embeddings",
    status_code=200,
    opt=described(answers.VectorList, takes=EmbeddingRequest),
)
async def create_embeddings(request: HTTPRequest) -> Response[bytes]:
    """A vector for each input."""
    wire = await body.read(request, _embed)
    asked = embeddings.parse(wire, job=new_id("embd-"))
    done = await streaming.whole(request, service_of(request), asked)
    return Response(embeddings.whole(wire, done, model=asked.model), media_type=JSON)


@get("/models", opt=described(answers.ModelList))
async def list_models(request: HTTPRequest) -> Response[bytes]:
    """Every model in the catalog; as Anthropic lists them for a client that says it is theirs."""
    if ANTHROPIC_VERSION in request.headers:
        return await anthropic.list_models(request)
    cards = await service_of(request).fleet.catalog()
    return Response(render.encode(models.listed(cards.values())), media_type=JSON)


@get("/models/{name:path}", opt=described(answers.Model))
async def get_model(request: HTTPRequest, name: FromPath[str]) -> Response[bytes]:
    """One model, by any of its names."""
    if ANTHROPIC_VERSION in request.headers:
        return await anthropic.get_model(request, name)
    card = await service_of(request).fleet.find(name.removeprefix("/"))
    return Response(render.encode(models.shown(card)), media_type=JSON)


def known_backend(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of /engines/{backend}/…: a backend that is not there is a 404 with its name."""
    backend = connection.path_params["backend"]
    if backend not in BACKENDS:
        raise NotFound(f"backend not found: {backend!r}; there is {', '.join(BACKENDS)}")


def _head(wire: Generation, asked: Generate) -> render.Head:
    return render.Head.now(
        job=asked.id,
        model=asked.model,
        with_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        with_logprobs=asked.logprobs is not None,
        service_tier=wire.service_tier and ("flex" if asked.lane == "batch" else "default"),
    )


HANDLERS = (
    chat_completions,
    text_completions,
    create_embeddings,
    list_models,
    get_model,
    *EXTRAS,
)

OPENAI = Dialect(paths=("/v1", "/engines"), respond=respond, errors=ErrorAnswer)
OPENAI.mount("/", (*EXTRAS, list_adapters))
OPENAI.mount("/engines", (rerank, score))
OPENAI.mount("/engines/{backend:str}", (rerank, score), guards=[known_backend])
OPENAI.mount("/v1", HANDLERS)
OPENAI.mount("/engines/v1", HANDLERS)
OPENAI.mount("/engines/{backend:str}/v1", HANDLERS, guards=[known_backend])
