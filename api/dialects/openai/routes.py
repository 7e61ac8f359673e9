"""Where OpenAI clients knock: /v1, /engines/v1, /engines/llama.cpp/v1."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from api import body, streaming
from api.dialects.dialect import Dialect
from api.dialects.openai import models, parse, render
from api.dialects.openai.errors import respond
from api.dialects.openai.types import ChatRequest
from api.faults import HTTPRequest
from api.service import new_id, service_of
from shared.errors import NotFound

JSON = "application/json"
BACKENDS = ("llama.cpp",)

_chat = msgspec.json.Decoder(ChatRequest)


@post("/chat/completions", status_code=200)
async def chat_completions(request: HTTPRequest) -> Response[bytes]:
    """A chat answer, whole or as a stream of chunks."""
    wire = await body.read(request, _chat)
    asked = parse.chat(wire, job=new_id("chatcmpl-"))
    head = render.Head.now(
        job=asked.id,
        model=asked.model,
        with_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        with_logprobs=asked.logprobs is not None,
        service_tier=wire.service_tier and ("flex" if asked.lane == "batch" else "default"),
    )
    service = service_of(request)
    if wire.stream:
        return await streaming.sse(request, service, asked, render.ChatStream(head))
    done = await streaming.whole(request, service, asked)
    return Response(render.chat(head, done), media_type=JSON)


@get("/models")
async def list_models(request: HTTPRequest) -> Response[bytes]:
    """Every model in the catalog."""
    cards = await service_of(request).fleet.catalog()
    return Response(render.encode(models.listed(cards.values())), media_type=JSON)


@get("/models/{name:path}")
async def get_model(request: HTTPRequest, name: FromPath[str]) -> Response[bytes]:
    """One model, by any of its names."""
    card = await service_of(request).fleet.find(name.removeprefix("/"))
    return Response(render.encode(models.shown(card)), media_type=JSON)


def known_backend(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of /engines/{backend}/…: a backend that is not there is a 404 with its name."""
    backend = connection.path_params["backend"]
    if backend not in BACKENDS:
        raise NotFound(f"backend not found: {backend!r}; there is {', '.join(BACKENDS)}")


HANDLERS = (chat_completions, list_models, get_model)

OPENAI = Dialect(paths=("/v1", "/engines"), respond=respond)
OPENAI.mount("/v1", HANDLERS)
OPENAI.mount("/engines/v1", HANDLERS)
OPENAI.mount("/engines/{backend:str}/v1", HANDLERS, guards=[known_backend])
