"""Ollama's routes that change the store: pull, push, create, copy, delete, blobs."""

from __future__ import annotations

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath

from api import body, stores, streaming
from api.dialects.ollama import answers, store_lines, types
from api.dialects.ollama.parse import model_of
from api.faults import HTTPRequest
from api.openapi import described
from api.service import Service, service_of
from shared import storing
from shared.errors import NotFound, UnknownModel
from shared.storing import PutFile, StoreTask, Tag

JSON = "application/json"
NDJSON = "application/x-ndjson"
FIRST_WAIT_S = 20.0  # nothing is sent before: what fails by then has its status
ALSO = {401: answers.Error, 409: answers.Error, 422: answers.Error, 502: answers.Error}

_pull = msgspec.json.Decoder(types.Pull)
_push = msgspec.json.Decoder(types.Push)
_create = msgspec.json.Decoder(types.Create)
_copy = msgspec.json.Decoder(types.Copy)
_delete = msgspec.json.Decoder(types.Delete)
_encode = msgspec.json.Encoder().encode


@post(
    "/pull",
    status_code=200,
    opt=described(answers.Status, takes=types.Pull, streams=NDJSON, also=ALSO),
)
async def pull(request: HTTPRequest) -> Response[bytes]:
    """Bring a model here; as lines unless `stream` is false."""
    wire = await body.read(request, _pull)
    task, service = store_lines.pull(wire), service_of(request)
    asked = stores.asked(task, queue=await stores.puller(service, task.source))
    return await _run(request, service, asked, "pull", stream=wire.stream is not False)


@post(
    "/push",
    status_code=200,
    opt=described(answers.Status, takes=types.Push, streams=NDJSON, also=ALSO),
)
async def push(request: HTTPRequest) -> Response[bytes]:
    """Bring a model to its registry; as lines unless `stream` is false."""
    wire = await body.read(request, _push)
    task, service = store_lines.push(wire), service_of(request)
    card = await service.fleet.find(task.name)
    asked = stores.asked(task, queue=await stores.nearest(service, card))
    return await _run(request, service, asked, "push", stream=wire.stream is not False)


@post(
    "/create",
    status_code=200,
    opt=described(answers.Status, takes=types.Create, streams=NDJSON, also=ALSO),
)
async def create(request: HTTPRequest) -> Response[bytes]:
    """A model out of another, or out of uploaded files."""
    wire = await body.read(request, _create)
    task, service = store_lines.create(wire), service_of(request)
    if task.files:
        queue = await _with_files(service, task.files)
    else:
        task, queue = await _with_source(service, task)
    asked = stores.asked(task, queue=queue)
    return await _run(request, service, asked, "create", stream=wire.stream is not False)


async def _with_files(service: Service, files: dict[str, str]) -> str:
    """The queue of the store that has the uploads."""
    for digest in files.values():
        if store := await stores.uploaded(service, digest):
            return storing.queue_of(store)
    return await stores.anywhere(service)


async def _with_source(service: Service, task: storing.Create) -> tuple[storing.Create, str]:
    try:
        card = await service.fleet.find(task.source)
    except UnknownModel:  # it is pulled first
        return task, await stores.anywhere(service)
    task = msgspec.structs.replace(task, source=stores.meant(card))
    return task, await stores.nearest(service, card)


async def _run(
    request: HTTPRequest,
    service: Service,
    asked: StoreTask,
    kind: store_lines.Kind,
    *,
    stream: bool,
) -> Response[bytes]:
    if stream:
        lines = store_lines.Lines(kind)
        return await streaming.ndjson(request, service, asked, lines, first_wait_s=FIRST_WAIT_S)
    await streaming.whole(request, service, asked)
    return Response(_encode(store_lines.SUCCESS), media_type=JSON)


@post("/copy", status_code=200, opt=described(takes=types.Copy, also=ALSO))
async def copy(request: HTTPRequest) -> Response[bytes]:
    """One more name for a model."""
    source, target = store_lines.copied(await body.read(request, _copy))
    service = service_of(request)
    card = await service.fleet.find(source)
    task = Tag(name=stores.meant(card), target=target)
    await stores.run(request, service, task, await stores.nearest(service, card))
    return Response(b"", media_type=JSON)


@delete("/delete", status_code=200, opt=described(takes=types.Delete, also=ALSO))
async def remove(request: HTTPRequest) -> Response[bytes]:
    """Take a name away, and with the last one the model."""
    wire: types.Delete = await body.read(request, _delete)
    name = model_of(wire)
    await stores.remove(request, service_of(request), name)
    return Response(b"", media_type=JSON)


@get("/blobs/{digest:str}", opt=described(runs=True))
async def has_blob(request: HTTPRequest, digest: FromPath[str]) -> Response[bytes]:
    """Whether this file was uploaded; clients ask with HEAD."""
    if await stores.uploaded(service_of(request), digest) is None:
        raise NotFound(f"no upload has the digest {digest!r}")
    return Response(b"", media_type=JSON)


@post(
    "/blobs/{digest:str}",
    status_code=201,
    request_max_body_size=None,
    opt=described(uploads="application/octet-stream", runs=True, also=ALSO),
)
async def put_blob(request: HTTPRequest, digest: FromPath[str]) -> Response[bytes]:
    """Keep a file of a model to come."""
    service = service_of(request)
    length = request.headers.get("content-length", "")
    task = PutFile(digest=digest, size=int(length) if length.isdecimal() else 0)
    asked = stores.asked(task, queue=await stores.anywhere(service))
    await stores.upload(service, asked, request.stream())
    return Response(b"", status_code=201, media_type=JSON)


HANDLERS = (pull, push, create, copy, remove, has_blob, put_blob)
