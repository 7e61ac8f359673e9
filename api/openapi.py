"""The OpenAPI document, true to what is read and sent.

Litestar knows the routes, but not the bodies: api/body.py reads them and renderers write bytes. So
a handler says `opt=described(ChatCompletion, takes=ChatRequest)`, and what the document lacks
is put in from the Structs themselves when it is rendered.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, ScalarRenderPlugin
from litestar.routes import HTTPRoute

DESCRIBED = "described"
ERRORS = "errors"
JOB_ERRORS = "job_errors"  # statuses of a dialect's own, for what waits for a worker
REF = "#/components/schemas/{name}"
JSON = "application/json"
EVENTS = "text/event-stream"
BODY_STATUSES = {
    400: "The request is wrong, or asks for what is not offered; the field is named",
    413: "The body is too large",
}
JOB_STATUSES = {
    429: "Too much is waiting; Retry-After says when to come back",
    504: "The job waited longer than it may",
}
QUERY_STATUSES = {400: "The query is wrong; the parameter is named"}
STATUSES = {
    404: "There is no such model or path",
    500: "A bug, or the job took its worker down",
    503: "The queue cannot be reached; Retry-After says when to come back",
}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A handler's body and query, its answer's forms, the media type it may send as text instead,
    that of a file it takes, whether it waits for a worker, what else it answers, by status."""

    takes: Any = None
    query: Any = None
    gives: tuple[Any, ...] = ()
    streams: str | None = None
    uploads: str | None = None
    runs: bool = False
    also: dict[int, Any] = {}


def described(
    *gives: Any,
    takes: Any = None,
    query: Any = None,
    streams: str | None = None,
    uploads: str | None = None,
    runs: bool | None = None,
    also: dict[int, Any] | None = None,
) -> dict[str, Any]:
    """A handler's `opt`: the types its answer may be written from, the Structs its body and its
    query are read as. What takes a body runs a job unless it says `runs=False`."""
    told = Described(
        takes=takes,
        query=query,
        gives=gives,
        streams=streams,
        uploads=uploads,
        runs=takes is not None if runs is None else runs,
        also=also or {},
    )
    return {DESCRIBED: told}


def config(*, version: str) -> OpenAPIConfig:
    """For Litestar: the document at /schema/openapi.json, a page to read it at /schema."""
    return OpenAPIConfig(
        title="Caravan",
        version=version,
        path="/schema",
        render_plugins=[_Page(), _Document()],
    )


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, complete(request.app, openapi_schema))


class _Page(ScalarRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, complete(request.app, openapi_schema))


def complete(app: Litestar, schema: dict[str, Any]) -> dict[str, Any]:
    """The document with every described body, answer and error in it."""
    schema = copy.deepcopy(schema)
    operations = list(_operations(app, schema))
    types = list(dict.fromkeys(one for _, handler in operations for one in _named(handler.opt)))
    refs, components = msgspec.json.schema_components(types, ref_template=REF)
    known = dict(zip(types, refs, strict=True))
    for operation, handler in operations:
        _describe(operation, handler, known)
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    return schema


def _operations(
    app: Litestar, schema: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], HTTPRouteHandler]]:
    for route in app.routes:
        item = schema["paths"].get(route.path_format or "/")
        if item is None or not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in handler.http_methods:
                if (operation := item.get(method.lower())) and DESCRIBED in handler.opt:
                    yield operation, handler


def _named(opt: dict[str, Any]) -> Iterator[Any]:
    told: Described = opt[DESCRIBED]
    every = (told.takes, told.query, *told.gives, opt.get(ERRORS), *told.also.values())
    yield from (one for one in every if one is not None)


def _describe(operation: dict[str, Any], handler: HTTPRouteHandler, known: dict[Any, Any]) -> None:
    told: Described = handler.opt[DESCRIBED]
    if told.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content([known[told.takes]])}
    if told.uploads is not None:
        operation["requestBody"] = {"required": True, "content": {told.uploads: {}}}
    if told.query is not None:
        operation["parameters"] = [*operation.get("parameters", []), *_parameters(told.query)]
    operation["responses"] = dict(sorted(_responses(told, handler, known).items()))


def _responses(told: Described, handler: HTTPRouteHandler, known: dict[Any, Any]) -> dict[str, Any]:
    """Every status that can be sent, by its three digits."""
    errors = handler.opt.get(ERRORS)
    shape = _content([known[errors]]) if errors else {}
    failures = _failures(told, handler.opt)
    found = {str(status): _response(why, shape) for status, why in failures.items()}
    if handler.status_code < 400:
        found[str(handler.status_code)] = _response("The answer", _answer(told, known))
    for status, kind in told.also.items():
        kinds = [kind, errors] if status in failures else [kind]
        shapes = [known[one] for one in kinds if one is not None]
        why = failures.get(status, HTTPStatus(status).phrase)
        found[str(status)] = _response(why, _content(shapes) if shapes else {})
    return found


def _answer(told: Described, known: dict[Any, Any]) -> dict[str, Any]:
    content = _content([known[one] for one in told.gives]) if told.gives else {}
    if told.streams:
        events = told.streams == EVENTS  # readers of the document would apply a schema to each
        content[told.streams] = {} if events else {"schema": {"type": "string"}}
    return content


def _failures(told: Described, opt: dict[str, Any]) -> dict[int, str]:
    return {
        **(BODY_STATUSES if told.takes is not None or told.uploads else {}),
        **(QUERY_STATUSES if told.query is not None else {}),
        **(JOB_STATUSES | opt.get(JOB_ERRORS, {}) if told.runs else {}),
        **(STATUSES if opt.get(ERRORS) else {}),
    }


def _response(why: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": why, **({"content": content} if content else {})}


def _parameters(query: Any) -> Iterator[dict[str, Any]]:
    """A query Struct's fields; each stands alone, so references are not needed."""
    for field in msgspec.structs.fields(query):
        schema = msgspec.json.schema(field.type)
        if field.default is not msgspec.NODEFAULT and field.default is not None:
            schema["default"] = field.default
        yield {"name": field.encode_name, "in": "query", "required": False, "schema": schema}


def _content(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
