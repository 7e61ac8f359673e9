"""Where Ollama's clients knock: /api."""

from __future__ import annotations

import time

import msgspec
from litestar import Response, get, post

from api import body, orders, streaming
from api.dialects.dialect import Dialect
from api.dialects.ollama import answers, models, parse, render, store, types
from api.dialects.ollama.errors import respond
from api.faults import HTTPRequest
from api.openapi import described
from api.service import new_id, service_of
from shared import requests

JSON = "application/json"
NDJSON = "application/x-ndjson"
API_LEVEL = "0.13.0"  # the Ollama release whose API this is: clients compare it with what they need

_chat = msgspec.json.Decoder(types.Chat)
_generate = msgspec.json.Decoder(types.Generate)
_embed = msgspec.json.Decoder(types.Embed)
_embeddings = msgspec.json.Decoder(types.Embeddings)
_show = msgspec.json.Decoder(types.Show)
_encode = msgspec.json.Encoder().encode


def reply(answer: msgspec.Struct) -> Response[bytes]:
    """A whole answer."""
    return Response(_encode(answer), media_type=JSON)


@post("/chat", status_code=200, opt=described(answers.ChatLine, takes=types.Chat, streams=NDJSON))
async def chat(request: HTTPRequest) -> Response[bytes]:
    """An answer to a conversation, as lines unless `stream` is false."""
    wire = await body.read(request, _chat)
    pen = _pen(wire, "chat")
    asked = parse.chat(wire, job=new_id("chat-"))  # also of a load: what is refused is refused
    if parse.intent_of(wire) != "run":
        return await _move(request, wire, pen)
    return await _run(request, wire, pen, asked)


@post(
    "/generate",
    status_code=200,
    opt=described(answers.GenerateLine, takes=types.Generate, streams=NDJSON),
)
async def generate(request: HTTPRequest) -> Response[bytes]:
    """An answer to a prompt, as lines unless `stream` is false."""
    wire = await body.read(request, _generate)
    asked = parse.generate(wire, job=new_id("gen-"))
    pen = _pen(wire, "generate", asked.input)
    if parse.intent_of(wire) != "run":
        return await _move(request, wire, pen)
    return await _run(request, wire, pen, asked)


def _pen(
    wire: types.Generation,
    shape: render.Shape,
    asked: requests.Chat | requests.Prompt | None = None,
) -> render.Pen:
    conversation = asked.messages if isinstance(asked, requests.Chat) else None
    return render.Pen(
        model=parse.model_of(wire), shape=shape, now_ns=time.time_ns, asked=conversation
    )


async def _run(
    request: HTTPRequest, wire: types.Generation, pen: render.Pen, asked: requests.Generate
) -> Response[bytes]:
    service = service_of(request)
    if wire.stream is not False:
        return await streaming.ndjson(request, service, asked, render.Stream(pen))
    return reply(pen.whole(await streaming.whole(request, service, asked)))


async def _move(
    request: HTTPRequest, wire: types.Chat | types.Generate, pen: render.Pen
) -> Response[bytes]:
    """Nothing to answer: the model is loaded, or with keep_alive 0 let go."""
    if parse.intent_of(wire) == "unload":
        await orders.unload(service_of(request), pen.model)
        return reply(pen.moved("unload"))
    await streaming.whole(request, service_of(request), parse.load(wire, job=new_id("load-")))
    return reply(pen.moved("load"))


@post("/embed", status_code=200, opt=described(answers.Embedded, takes=types.Embed))
async def embed(request: HTTPRequest) -> Response[bytes]:
    """A vector for each input; without one the model is loaded."""
    wire = await body.read(request, _embed)
    name, service = parse.model_of(wire), service_of(request)
    if not wire.input:
        await streaming.whole(request, service, parse.load(wire, job=new_id("load-")))
        return reply(answers.Embedded(model=name, embeddings=()))
    asked = parse.embed(wire, job=new_id("embed-"))
    return reply(render.embedded(await streaming.whole(request, service, asked), model=name))


@post("/embeddings", status_code=200, opt=described(answers.Embedding, takes=types.Embeddings))
async def embeddings(request: HTTPRequest) -> Response[bytes]:
    """The older route: one vector; without a prompt the model is loaded."""
    wire = await body.read(request, _embeddings)
    service = service_of(request)
    if not wire.prompt:
        await streaming.whole(request, service, parse.load(wire, job=new_id("load-")))
        return reply(answers.Embedding(embedding=()))
    asked = parse.embeddings(wire, job=new_id("embed-"))
    found = render.vectors(await streaming.whole(request, service, asked))
    return reply(answers.Embedding(embedding=found[0] if found else ()))


@get("/version", sync_to_thread=False, opt=described(answers.Version))
def version() -> Response[bytes]:
    """The level of Ollama's API that is spoken here."""
    return reply(answers.Version(version=API_LEVEL))


@get("/tags", opt=described(answers.Tags))
async def tags(request: HTTPRequest) -> Response[bytes]:
    """Every model there is."""
    cards = await service_of(request).fleet.catalog()
    return reply(models.tags(cards.values()))


@get("/ps", opt=described(answers.Processes))
async def processes(request: HTTPRequest) -> Response[bytes]:
    """Every model that is loaded."""
    fleet = service_of(request).fleet
    return reply(models.processes(await fleet.workers(fresh=True), await fleet.catalog()))


@post("/show", status_code=200, opt=described(answers.Shown, takes=types.Show, runs=False))
async def show(request: HTTPRequest) -> Response[bytes]:
    """What is known of one model."""
    wire = await body.read(request, _show)
    parse.check_show(wire)
    card = await service_of(request).fleet.find(parse.model_of(wire))
    return reply(models.shown(card))


OLLAMA = Dialect(paths=("/api",), respond=respond, errors=answers.Error)
OLLAMA.mount(
    "/api",
    [
        *(chat, generate, embed, embeddings),
        *(version, tags, processes, show),
        *store.HANDLERS,
    ],
)
