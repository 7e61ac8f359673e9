"""Where Responses clients knock: /responses under every base path of OpenAI and Docker."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec
import structlog
from litestar import Response, delete, get, post
from litestar.params import FromPath
from redis.exceptions import RedisError

from api import body, streaming
from api.dialects.dialect import Dialect
from api.dialects.openai.routes import known_backend
from api.dialects.responses import answers, items, parse, render, types
from api.dialects.responses.conversation import messages
from api.dialects.responses.errors import ErrorAnswer, respond
from api.faults import HTTPRequest, headers_of, status_of
from api.openapi import described
from api.responses_store import Lost, ResponsesStore, StoredResponse
from api.service import Service, new_id, service_of
from shared.errors import CaravanError, RequestError, Unsupported, error_of
from shared.events import Failed
from shared.requests import Generate

log = structlog.get_logger()

JSON = "application/json"
PATHS = ("/responses", "/v1/responses", "/engines/responses", "/engines/v1/responses")
BACKEND_PATH = "/engines/{backend:str}/v1/responses"
TENANT = "open"  # there is one

_create = msgspec.json.Decoder(types.CreateResponse)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A request, understood: what to run, and what to keep of it."""

    asked: types.CreateResponse
    run: Generate
    input: list[items.Json]
    before: tuple[str, ...]


@post(
    "/",
    status_code=200,
    opt=described(
        answers.Response,
        takes=types.CreateResponse,
        streams="text/event-stream",
        also=dict.fromkeys((500, 503, 504), answers.Response),  # one that failed
    ),
)
async def create(request: HTTPRequest) -> Response[bytes]:
    """A response to an input, whole or as a stream of events."""
    asked = await body.read(request, _create)
    parse.check(asked)
    service = service_of(request)
    store = _store(service)
    turn = await _turn(asked, store)
    assembly = _assembly(turn)

    async def keep() -> None:
        if assembly.response.store:
            await _keep(store, turn, assembly.response)

    if asked.stream:
        renderer = render.Stream(assembly)
        return await streaming.sse(request, service, turn.run, renderer, before_end=keep)
    return await streaming.until_disconnect(request, _whole(request, turn.run, assembly, keep))


@get("/{response:str}", opt=described(answers.Response, query=types.Retrieve))
async def retrieve(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """A stored response, as its client got it."""
    if body.query(request, types.Retrieve).stream:
        raise Unsupported("stream", "only responses that run in the background stream again")
    return Response((await _stored(request, response)).body, media_type=JSON)


@delete("/{response:str}", status_code=200, opt=described(answers.Deleted))
async def forget(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """Delete a stored response."""
    if not await _store(service_of(request)).delete(response):
        raise items.not_found(response)
    return _reply(answers.Deleted(id=response))


@get("/{response:str}/input_items", opt=described(items.ItemList, query=types.Page))
async def input_items(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """What a stored response was asked, page by page."""
    stored = await _stored(request, response)
    page = body.query(request, types.Page)
    return _reply(items.page(stored.input, after=page.after, limit=page.limit, order=page.order))


@post("/{response:str}/cancel", status_code=200, opt=described(also={400: ErrorAnswer}))
async def cancel(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """Always an error: only what runs in the background could be cancelled."""
    await _stored(request, response)
    raise RequestError(
        "this response has ended; nothing runs in the background. To stop an answer, close its "
        "connection"
    )


async def _turn(asked: types.CreateResponse, store: ResponsesStore) -> Turn:
    job = new_id(items.PREFIX)
    given = items.given(asked, response=job)
    before, history = await _history(asked.previous_response_id, store)
    given = items.resolved(given, [*history, *await _referenced(given, history, store)])
    said = messages(asked.instructions, history, given)
    run = parse.generate(asked, job=job, messages=said)
    return Turn(asked=asked, run=run, input=given, before=before)


async def _history(
    last: str | None, store: ResponsesStore
) -> tuple[tuple[str, ...], list[items.Json]]:
    """The ids of the responses this one continues, and all their items."""
    if last is None:
        return (), []
    try:
        stored = await store.conversation(last)
    except Lost as lost:
        missing = "Previous response" if lost.response == last else "A response before it"
        raise RequestError(
            f"{missing} with id {lost.response!r} not found: it was never stored, has expired or "
            "was deleted",
            param="previous_response_id",
        ) from None
    return (*stored[-1].before, last), [item for one in stored for item in one.items]


async def _referenced(
    given: Sequence[items.Json], history: Sequence[items.Json], store: ResponsesStore
) -> list[items.Json]:
    """The items of every response that a reference points into, unless they are at hand."""
    known = {item["id"] for item in history}
    wanted = {response for item, response in items.references(given).items() if item not in known}
    stored = [await store.load(response) for response in sorted(wanted)]
    return [item for one in stored if one is not None for item in one.items]


def _assembly(turn: Turn) -> render.Assembly:
    return render.Assembly(
        render.head(turn.asked, turn.run, created=int(time.time())),
        first=len(turn.input),
        summarise=parse.summarises(turn.asked),
        seal=parse.includes(turn.asked, parse.SEALED),
        clock=time.time,
    )


async def _whole(
    request: HTTPRequest,
    run: Generate,
    assembly: render.Assembly,
    keep: Callable[[], Coroutine[Any, Any, None]],
) -> Response[bytes]:
    async with await service_of(request).start(run) as job:
        streaming.announce(request, job)
        async for events in job.batches():
            for _ in assembly.feed(events):
                pass
        error = error_of(job.end) if isinstance(job.end, Failed) else None
    if error is not None and not _ours(error):
        raise error
    await keep()
    return Response(
        render.encode(assembly.response),
        status_code=status_of(error) if error else 200,
        headers=headers_of(error) if error else {},
        media_type=JSON,
    )


def _ours(error: CaravanError) -> bool:
    """Whether a job failed by no fault of its request: then there is a response, a failed one."""
    return not isinstance(error, RequestError)


async def _keep(store: ResponsesStore, turn: Turn, response: answers.Response) -> None:
    kept = StoredResponse(body=render.encode(response), input=turn.input, before=turn.before)
    try:
        await store.save(response.id, kept)
    except (RedisError, OSError) as error:  # the answer is there, and worth more than its copy
        log.warning("response.not_kept", job=response.id, error=str(error))


async def _stored(request: HTTPRequest, response: str) -> StoredResponse:
    stored = await _store(service_of(request)).load(response)
    if stored is None:
        raise items.not_found(response)
    return stored


def _store(service: Service) -> ResponsesStore:
    return ResponsesStore(service.redis, tenant=TENANT, ttl_s=service.settings.responses_ttl_s)


def _reply(answer: msgspec.Struct) -> Response[bytes]:
    return Response(render.encode(answer), media_type=JSON)


HANDLERS = (create, retrieve, forget, input_items, cancel)

RESPONSES = Dialect(paths=PATHS, respond=respond, errors=ErrorAnswer)
for path in PATHS:
    RESPONSES.mount(path, HANDLERS)
RESPONSES.mount(BACKEND_PATH, HANDLERS, guards=[known_backend])
