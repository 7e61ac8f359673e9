"""Where Responses clients knock: /responses under every base path of OpenAI and Docker."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from litestar import Response, delete, get, post
from litestar.params import FromPath
from redis.exceptions import RedisError

from api import body, streaming
from api.dialects.dialect import Dialect
from api.dialects.openai.routes import known_backend
from api.dialects.responses import answers, items, parse, render, turns, types
from api.dialects.responses.background import Desk
from api.dialects.responses.errors import ErrorAnswer, respond
from api.faults import HTTPRequest, headers_of, status_of
from api.openapi import described
from api.responses_store import ResponsesStore, StoredResponse
from api.service import Job, Service, service_of
from shared.errors import CaravanError, RequestError, error_of
from shared.events import Failed
from shared.requests import Generate

log = structlog.get_logger()

JSON = "application/json"
PATHS = ("/responses", "/v1/responses", "/engines/responses", "/engines/v1/responses")
BACKEND_PATH = "/engines/{backend:str}/v1/responses"
TENANT = "open"  # there is one

_create = msgspec.json.Decoder(types.CreateResponse)


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
    turn = await turns.understood(asked, store, _desk(request))
    assembly = turns.assembly_of(turn)
    if asked.background:
        return await _in_background(request, turn, assembly)

    async def keep() -> None:
        if assembly.response.store:
            await _keep(store, turn, assembly.response)

    if asked.stream:
        renderer = render.Stream(assembly)
        return await streaming.sse(request, service, turn.run, renderer, before_end=keep)
    return await streaming.until_disconnect(request, _whole(request, turn.run, assembly, keep))


@get(
    "/{response:str}",
    opt=described(answers.Response, query=types.Retrieve, streams="text/event-stream"),
)
async def retrieve(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """A stored response, as far as it is; of one in the background also its events."""
    query = body.query(request, types.Retrieve)
    stored = await _stored(request, response)
    if query.stream:
        return await _again(request, stored, after=query.starting_after)
    if query.starting_after is not None:
        raise RequestError("starting_after: only with stream=true", param="starting_after")
    return Response((await _desk(request).look(stored)).body, media_type=JSON)


@delete("/{response:str}", status_code=200, opt=described(answers.Deleted))
async def forget(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """Delete a stored response; one in the background is stopped."""
    stored = await _stored(request, response)
    if stored.open:
        await _desk(request).cancel(stored)
    if not await _store(service_of(request)).delete(response):
        raise items.not_found(response)
    return _reply(answers.Deleted(id=response))


@get("/{response:str}/input_items", opt=described(items.ItemList, query=types.Page))
async def input_items(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """What a stored response was asked, page by page."""
    stored = await _stored(request, response)
    page = body.query(request, types.Page)
    return _reply(items.page(stored.input, after=page.after, limit=page.limit, order=page.order))


@post(
    "/{response:str}/cancel",
    status_code=200,
    opt=described(answers.Response, also={400: ErrorAnswer}),
)
async def cancel(request: HTTPRequest, response: FromPath[str]) -> Response[bytes]:
    """Stop a response in the background; one that has ended stays as it is."""
    stored = await _desk(request).cancel(await _stored(request, response))
    return Response(stored.body, media_type=JSON)


async def _in_background(
    request: HTTPRequest, turn: turns.Turn, assembly: render.Assembly
) -> Response[bytes]:
    """Its beginning, as soon as it is a job; or its events, for as long as somebody listens."""
    desk, stored = _desk(request), turns.kept(turn, assembly.response)
    job = await desk.begin(turn.run, stored)
    if turn.asked.stream:
        return _events(request, desk, stored, job, assembly, after=None)
    streaming.announce(request, job)
    await job.close()
    return Response(stored.body, media_type=JSON)


async def _again(
    request: HTTPRequest, stored: StoredResponse, *, after: int | None
) -> Response[bytes]:
    desk = _desk(request)
    job, assembly = await desk.follow(stored)
    return _events(request, desk, stored, job, assembly, after=after)


def _events(
    request: HTTPRequest,
    desk: Desk,
    stored: StoredResponse,
    job: Job,
    assembly: render.Assembly,
    *,
    after: int | None,
) -> Response[bytes]:
    renderer = render.Stream(assembly, after=-1 if after is None else after)

    async def keep() -> None:
        if stored.open:
            with _if_it_can_be(job.id):
                await desk.settle(stored, assembly.response)

    return streaming.sse_of(
        request, service_of(request), job, renderer, opening=renderer.opening(), before_end=keep
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


async def _keep(store: ResponsesStore, turn: turns.Turn, response: answers.Response) -> None:
    with _if_it_can_be(response.id):
        await store.save(response.id, turns.kept(turn, response))


@contextmanager
def _if_it_can_be(response: str) -> Iterator[None]:
    """The answer is there, and worth more than its copy."""
    try:
        yield
    except (RedisError, OSError) as error:
        log.warning("response.not_kept", job=response, error=str(error))


async def _stored(request: HTTPRequest, response: str) -> StoredResponse:
    stored = await _store(service_of(request)).load(response)
    if stored is None:
        raise items.not_found(response)
    return stored


def _desk(request: HTTPRequest) -> Desk:
    service = service_of(request)
    return Desk(service, _store(service))


def _store(service: Service) -> ResponsesStore:
    return ResponsesStore(service.redis, tenant=TENANT, ttl_s=service.settings.responses_ttl_s)


def _reply(answer: msgspec.Struct) -> Response[bytes]:
    return Response(render.encode(answer), media_type=JSON)


HANDLERS = (create, retrieve, forget, input_items, cancel)

RESPONSES = Dialect(paths=PATHS, respond=respond, errors=ErrorAnswer)
for path in PATHS:
    RESPONSES.mount(path, HANDLERS)
RESPONSES.mount(BACKEND_PATH, HANDLERS, guards=[known_backend])
