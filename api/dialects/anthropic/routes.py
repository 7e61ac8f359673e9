"""Where Anthropic's clients knock: /anthropic/v1, /v1, /engines/v1, /engines/llama.cpp/v1.

Models at /v1/models are OpenAI's to list; it hands a client that sends `anthropic-version` to
catalog.py.
"""

from __future__ import annotations

import msgspec
from litestar import Response, get, post

from api import body, streaming
from api.dialects.anthropic import answers, catalog, models, parse, render
from api.dialects.anthropic.errors import OVERLOADED, respond
from api.dialects.anthropic.types import CountTokens, MessageCreate
from api.dialects.dialect import Dialect
from api.dialects.openai.routes import known_backend
from api.edge import request_id, respond_with
from api.faults import HTTPRequest
from api.job import Wait
from api.openapi import described
from api.service import new_id, service_of

JSON = "application/json"
PING = render.frame(answers.Ping())
SHARED = ("/v1", "/engines/v1", "/engines/{backend:str}/v1")

_message = msgspec.json.Decoder(MessageCreate)
_count = msgspec.json.Decoder(CountTokens)
_encode = msgspec.json.Encoder().encode


def waiting(wait: Wait) -> bytes:
    """What a client hears while its job is queued: a comment that says why, and a ping."""
    return streaming.queued_comment(wait) + PING


@post(
    "/messages",
    status_code=200,
    opt=described(answers.Message, takes=MessageCreate, streams="text/event-stream"),
)
async def messages(request: HTTPRequest) -> Response[bytes]:
    """An answer to a conversation, whole or as a stream of events."""
    wire = await body.read(request, _message)
    asked = parse.generate(wire, job=new_id("msg_"))
    marks, hides = parse.marks_cache(wire), parse.hides_thinking(wire)
    service = service_of(request)
    if wire.stream:
        stream = render.Stream(
            id=asked.id, model=wire.model, marks_cache=marks, hides_thinking=hides
        )
        return await streaming.sse(request, service, asked, stream, ping=PING, waiting=waiting)
    done = await streaming.whole(request, service, asked)
    answer = render.message(done, model=wire.model, marks_cache=marks, hides_thinking=hides)
    return Response(_encode(answer), media_type=JSON)


@post(
    "/messages/count_tokens",
    status_code=200,
    opt=described(answers.TokenCount, takes=CountTokens),
)
async def count_tokens(request: HTTPRequest) -> Response[bytes]:
    """How many tokens a conversation is, by the model's own template and vocabulary."""
    wire = await body.read(request, _count)
    asked = parse.tokenize(wire, job=new_id("count_"))
    done = await streaming.whole(request, service_of(request), asked)
    tokens = len(done.tokens.ids) if done.tokens else 0
    return Response(_encode(answers.TokenCount(input_tokens=tokens)), media_type=JSON)


async def name_request(request: HTTPRequest) -> None:
    """The vendor's own header for the request's id, on answers and errors alike."""
    respond_with(request.scope, {"request-id": request_id(request.scope)})


MODELS = (
    get("/models", opt=described(answers.Models, query=models.Page))(catalog.list_models),
    get("/models/{name:path}", opt=described(answers.Model))(catalog.get_model),
)

ANTHROPIC = Dialect(
    paths=("/anthropic", "/v1/messages", "/engines/v1/messages", "/engines/llama.cpp/v1/messages"),
    respond=respond,
    errors=answers.Error,
    job_errors={OVERLOADED: "No worker can take it now; the same request will do later"},
)
ANTHROPIC.mount(
    "/anthropic/v1",
    [messages, count_tokens, *MODELS],
    before_request=name_request,
)
for prefix in SHARED:
    ANTHROPIC.mount(
        prefix,
        [messages, count_tokens],
        before_request=name_request,
        guards=[known_backend] if "{backend" in prefix else None,
    )
