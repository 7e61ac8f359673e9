"""/models…: pull, list, show, name, push, repackage, export, load, delete.

An error has Docker's status and words, in the shape of all errors here; what Docker answers as
404 because no handler fits is 404 here too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from api import body, stores, streaming
from api.dialects.dialect import Dialect
from api.dialects.dmr import models_answers as answers
from api.dialects.dmr import models_types as types
from api.dialects.dmr.models_errors import about, in_words, respond
from api.dialects.openai.errors import ErrorAnswer
from api.edge import respond_with
from api.faults import HTTPRequest
from api.openapi import described
from api.service import Service, service_of
from shared import presence, refs
from shared.errors import NotFound, RequestError
from shared.storing import Create, Export, Load, Look, Pull, Push, StoreTask, Tag

JSON = answers.JSON
TAR = "application/x-tar"
FIRST_WAIT_S = 20.0  # nothing is sent before: what fails by then has its status
GOES_WRONG = {401: ErrorAnswer, 409: ErrorAnswer, 422: ErrorAnswer, 502: ErrorAnswer}

_encode = msgspec.json.Encoder().encode
_create = msgspec.json.Decoder(types.Create)
_push = msgspec.json.Decoder(types.Push)
_repackage = msgspec.json.Decoder(types.Repackage)


def reply(answer: Any, *, status: int = 200) -> Response[bytes]:
    """A whole answer."""
    return Response(_encode(answer), status_code=status, media_type=JSON)


@post(
    "/create",
    status_code=200,
    opt=described(answers.Line, takes=types.Create, streams="text/plain", also=GOES_WRONG),
)
async def create(request: HTTPRequest) -> Response[bytes]:
    """Pull a model; its progress, a JSON object a line."""
    wire = await body.read(request, _create)
    if not wire.source.strip():
        raise RequestError("invalid request body: from is required", param="from")
    service = service_of(request)
    task = Pull(source=wire.source, token=wire.bearer_token or "")
    asked = stores.asked(task, queue=await stores.puller(service, wire.source))
    with in_words():
        return await _lines(request, service, asked, mode="pull")


async def _lines(
    request: HTTPRequest, service: Service, asked: StoreTask, *, mode: str
) -> Response[bytes]:
    raw = request.headers.get("accept", "") == JSON
    return await streaming.ndjson(
        request,
        service,
        asked,
        answers.Lines(mode, escaped=not raw),
        media_type=JSON if raw else answers.TEXT,
        first_wait_s=FIRST_WAIT_S,
    )


@get("/", opt=described(list[answers.Model]))
async def all_models(request: HTTPRequest) -> Response[bytes]:
    """Every model there is."""
    catalog = await service_of(request).fleet.catalog()
    return reply([answers.model(card) for card in catalog.values()])


@get("/{name:path}", opt=described(answers.Model, runs=True, also={401: ErrorAnswer}))
async def one_model(request: HTTPRequest, name: FromPath[str]) -> Response[Any]:
    """One model, by any of its names; `…/export` is its tar; with `remote`, what its registry
    has."""
    service, name = service_of(request), name.removeprefix("/")
    if name.endswith("/export"):
        return await export(service, name.removesuffix("/export"))
    if flag(request, "remote"):
        return reply(await _remote(request, service, name))
    return reply(answers.model(await stores.find(service, name)))


async def _remote(request: HTTPRequest, service: Service, name: str) -> answers.Model:
    with about("error while getting remote model"):
        stored = await stores.run(request, service, Look(name=name), await stores.anywhere(service))
    return answers.model(presence.unpack(stored.card), tagged=False)


async def export(service: Service, name: str) -> Response[Any]:
    """The model as a tar."""
    card = await stores.find(service, name)
    task = stores.asked(Export(name=stores.meant(card)), queue=await stores.nearest(service, card))
    pieces = stores.download(service, task)
    first = await anext(pieces)

    async def tar() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    file = re.sub(r"[^A-Za-z0-9._-]+", "-", card.ref)
    heading = {"content-disposition": f'attachment; filename="{file}.tar"'}
    return Stream(tar, media_type=TAR, headers=heading)


@post(
    "/load",
    status_code=200,
    request_max_body_size=None,
    opt=described(streams=answers.TEXT, uploads=TAR, runs=True, also=GOES_WRONG),
)
async def load(request: HTTPRequest) -> Response[bytes]:
    """Store the model in a tar, untagged; the header `x-caravan-model` says its ID."""
    service = service_of(request)
    asked = stores.asked(Load(), queue=await stores.anywhere(service))
    with about("error while loading model"):
        stored = await stores.upload(service, asked, request.stream())
    respond_with(request.scope, {"x-caravan-model": stored.id})
    line = answers.Line(type="success", message="Model loaded successfully")
    return Response(_encode(line) + b"\n", media_type=answers.TEXT)


@delete("/purge", status_code=200, opt=described(runs=True))
async def purge(request: HTTPRequest) -> Response[bytes]:
    """Empty every store."""
    service = service_of(request)
    await stores.purge(request, service)
    return Response(b"", media_type=JSON)


@delete(
    "/{name:path}",
    status_code=200,
    opt=described(list[answers.Action], runs=True, also={409: ErrorAnswer}),
)
async def remove(request: HTTPRequest, name: FromPath[str]) -> Response[bytes]:
    """Untag a model; with its last name, or by ID, it is deleted."""
    name = name.removeprefix("/")
    with about("error while deleting model"):
        stored = await stores.remove(
            request, service_of(request), name, force=flag(request, "force")
        )
    untagged = dict.fromkeys(name for one in stored for name in one.untagged)
    deleted = dict.fromkeys(one.deleted for one in stored if one.deleted)
    return reply(answers.actions(list(untagged), list(deleted)))


@post(
    "/{name:path}",
    status_code=200,
    opt=described(answers.Tagged, answers.Repackaged, answers.Line, runs=True, also=GOES_WRONG),
)
async def act(request: HTTPRequest, name: FromPath[str]) -> Response[bytes]:
    """`…/tag`, `…/push`, `…/repackage`."""
    name, _, action = name.removeprefix("/").rpartition("/")
    match action:
        case "tag":
            return await tag(request, name)
        case "push":
            return await push(request, name)
        case "repackage":
            return await repackage(request, name)
        case _:
            raise NotFound(f'unknown action "{action}"')


async def tag(request: HTTPRequest, name: str) -> Response[bytes]:
    """Give a model the name `repo:tag`."""
    await request.body()
    repository, version = (request.query_params.get(key, "") for key in ("repo", "tag"))
    if not repository or not version:
        raise RequestError("missing repo or tag query parameter", param="repo")
    target = f"{repository}:{version}"
    service = service_of(request)
    card = await stores.find(service, name)
    queue = await stores.nearest(service, card)
    await stores.run(request, service, Tag(name=stores.meant(card), target=target), queue)
    message = f'Model tagged successfully with "{target}"'
    return reply(answers.Tagged(message, target), status=201)


async def push(request: HTTPRequest, name: str) -> Response[bytes]:
    """Bring a model to its registry; progress, a JSON object a line."""
    given = await request.body()
    token = body.parse(given, _push).bearer_token if given.strip() else None
    service = service_of(request)
    with in_words():
        card = await service.fleet.find(name)
        queue = await stores.nearest(service, card)
        where = card.ref if refs.is_id(name) else refs.normalize(name)
        asked = stores.asked(Push(name=where, token=token or ""), queue=queue)
        return await _lines(request, service, asked, mode="push")


async def repackage(request: HTTPRequest, name: str) -> Response[bytes]:
    """The same weights under another name, with another context size."""
    wire = await body.read(request, _repackage)
    if not wire.target:
        raise RequestError("target is required", param="target")
    service = service_of(request)
    card = await stores.find(service, name)
    task = Create(ref=wire.target, source=stores.meant(card), context_size=wire.context_size)
    await stores.run(request, service, task, await stores.nearest(service, card))
    message = f'Model repackaged successfully as "{wire.target}"'
    return reply(answers.Repackaged(message, name, wire.target), status=201)


def flag(request: HTTPRequest, name: str) -> bool:
    """A query's yes or no, as Go reads it: there and empty is yes, what cannot be read is no."""
    given = request.query_params.get(name)
    return given is not None and given in ("", "1", "t", "T", "true", "TRUE", "True")


MODELS = Dialect(paths=("/models",), respond=respond, errors=ErrorAnswer)
MODELS.mount("/models", [create, load, all_models, purge, one_model, remove, act])
