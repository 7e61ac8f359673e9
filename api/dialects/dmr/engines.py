"""/engines/…: how the engine is, what it holds, what it was asked, what it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Response, get, post

from api import body, orders, recorder, streaming
from api.dialects.dmr import answers, types
from api.dialects.dmr.configure import config_of
from api.dialects.openai.errors import ErrorAnswer, ErrorBody
from api.faults import HTTPRequest
from api.openapi import described
from api.service import Service, service_of
from shared import model_config, refs
from shared.errors import NotFound, RequestError, UnknownModel, Unsupported

JSON = "application/json"
EVENTS = "text/event-stream"
CONNECTED = b'event: connected\ndata: {"status": "connected"}\n\n'

_encode = msgspec.json.Encoder().encode
_unload = msgspec.json.Decoder(types.Unload)
_backend = msgspec.json.Decoder(types.Backend)
_configure = msgspec.json.Decoder(types.Configure)


def reply(answer: Any) -> Response[bytes]:
    """A whole answer."""
    return Response(_encode(answer), media_type=JSON)


def not_here(message: str) -> Response[bytes]:
    """501: the route is known, and what it would do is not done by this server."""
    error = ErrorBody(message=message, type="server_error", param=None, code="not_implemented")
    return Response(_encode(ErrorAnswer(error)), status_code=501, media_type=JSON)


@get("/status", opt=described(dict[str, str]))
async def status(request: HTTPRequest) -> Response[bytes]:
    """Every engine, and how it is."""
    return reply(answers.status(await service_of(request).fleet.workers(fresh=True)))


@get("/ps", opt=described(list[answers.Runner]))
async def processes(request: HTTPRequest) -> Response[bytes]:
    """Every model in every worker."""
    fleet = service_of(request).fleet
    return reply(answers.runners(await fleet.workers(fresh=True), await fleet.catalog()))


@get("/df", opt=described(answers.DiskUsage))
async def disk_usage(request: HTTPRequest) -> Response[bytes]:
    """What the models take on disk."""
    return reply(answers.disk_usage((await service_of(request).fleet.catalog()).values()))


@post(
    "/unload",
    status_code=200,
    opt=described(answers.Unloaded, takes=types.Unload, runs=False),
)
async def unload(request: HTTPRequest) -> Response[bytes]:
    """Let idle models go; answers how many were let go of."""
    wire = await body.read(request, _unload)
    service = service_of(request)
    if wire.backend not in (None, "", answers.BACKEND):
        return reply(answers.Unloaded(0))
    if wire.all:
        await model_config.forget(service.redis)
        service.configs.outdated()
        return reply(answers.Unloaded(await orders.unload_idle(service, None)))
    models = [ref for name in wire.models or () if (ref := await _ref(service, name))]
    if wire.backend:
        await model_config.forget(service.redis, models)
        service.configs.outdated()
    return reply(answers.Unloaded(await orders.unload_idle(service, models)))


@post("/install-backend", status_code=200, opt=described(takes=types.Backend, runs=False))
async def install(request: HTTPRequest) -> Response[bytes]:
    """The one engine there is, is installed."""
    wire = await body.read(request, _backend)
    _known(wire.backend)
    if wire.version not in (None, "", "latest"):
        raise Unsupported("version", "the engine is part of the workers and has theirs")
    return Response(b"", media_type=JSON)


@post("/uninstall-backend", status_code=501, opt=described(takes=types.Backend, runs=False))
async def uninstall(request: HTTPRequest) -> Response[bytes]:
    """Would take the engine out of the workers."""
    _known((await body.read(request, _backend)).backend)
    return not_here("the engine is part of the workers; stop them instead")


@get("/_configure", opt=described(list[answers.Configured], query=types.Configured))
async def configured(request: HTTPRequest) -> Response[bytes]:
    """Every model's configuration, or one model's."""
    service = service_of(request)
    configs, catalog = await model_config.read_all(service.redis), await service.fleet.catalog()
    if name := body.query(request, types.Configured).model:
        ref = await _ref(service, name)
        configs = {model: config for model, config in configs.items() if model == ref}
    return reply(answers.configured(configs, catalog))


@post("/_configure", status_code=202, opt=described(takes=types.Configure, runs=False))
async def configure(request: HTTPRequest) -> Response[bytes]:
    """Set what is given for a model; what is not given stays."""
    wire = await body.read(request, _configure)
    if not wire.model:
        raise RequestError("model is required", param="model")
    config = config_of(wire)
    service = service_of(request)
    ref = await _ref(service, wire.model) or refs.normalize(wire.model)
    await model_config.merge(service.redis, ref, config)
    service.configs.outdated()
    return Response(b"", status_code=202, media_type=JSON)


@get(
    "/requests",
    opt=described(list[answers.Requests], query=types.Requests, streams=EVENTS),
)
async def requests(request: HTTPRequest) -> Response[bytes]:
    """What models were asked last, as JSON or, as it happens, as events. Empty unless the operator
    lets requests be recorded."""
    service = service_of(request)
    asked = body.query(request, types.Requests)
    ref = (await service.fleet.find(asked.model)).ref if asked.model else None
    if EVENTS in request.headers.get("accept", ""):
        return streaming.follow(service, _told(service, ref, existing=asked.include_existing))
    return reply(await _kept(service, ref))


async def _kept(service: Service, ref: str | None) -> list[answers.Requests]:
    catalog = await service.fleet.catalog()
    found = []
    for card in catalog.values():
        if ref in (None, card.ref) and (records := await recorder.records(service.redis, card.ref)):
            config = await model_config.read(service.redis, card.ref)
            found.append(answers.requests(card, config, records))
    return found


async def _told(service: Service, ref: str | None, *, existing: bool) -> AsyncIterator[bytes]:
    """Docker's events: what there was, that we listen, and what comes; a record an event."""
    begun = False
    async with aclosing(recorder.listen(service.redis)) as records:
        async for told in records:
            if told is None and not begun:
                begun = True
                for one in await _kept(service, ref) if existing else ():
                    yield b"".join(
                        _framed(b"existing_request", one, record) for record in one.records
                    )
                yield CONNECTED
            elif told is not None and ref in (None, told.model):
                card = await service.fleet.model(told.model)
                if card is not None:
                    config = await model_config.read(service.redis, card.ref)
                    yield _framed(b"new_request", answers.requests(card, config, []), told.record)


def _framed(name: bytes, of: answers.Requests, record: recorder.Record) -> bytes:
    one = msgspec.structs.replace(of, count=1, records=[record])
    return b"event: " + name + b"\ndata: " + _encode([one]) + b"\n\n"


async def _ref(service: Service, name: str) -> str | None:
    try:
        return (await service.fleet.find(name)).ref
    except UnknownModel:
        return None


def _known(backend: str | None) -> None:
    if not backend:
        raise RequestError("invalid request: backend is required", param="backend")
    if backend != answers.BACKEND:
        raise NotFound(f"backend not found: {backend!r}; there is {answers.BACKEND}")


HANDLERS = (
    status,
    processes,
    disk_usage,
    unload,
    install,
    uninstall,
    configured,
    configure,
    requests,
)
