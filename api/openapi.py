"""The OpenAPI document, true to what is read and sent.

Litestar knows the routes, but not the bodies: api/body.py reads them and renderers write bytes. So
a handler says `opt=described(ChatCompletion, takes=ChatRequest)`, and what the document lacks
is put in from the Structs themselves when it is rendered.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, ScalarRenderPlugin
from litestar.routes import HTTPRoute

DESCRIBED = "described"
ERRORS = "errors"
REF = "#/components/schemas/{name}"
JSON = "application/json"
BODY_STATUSES = {400: "The request is wrong; the field is named", 413: "The body is too large"}
STATUSES = {
    404: "There is no such model or path",
    429: "Too much is waiting; Retry-After says when to come back",
    500: "A bug, or the job took its worker down",
    503: "The queue cannot be reached; Retry-After says when to come back",
    504: "The job waited longer than it may",
}


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A handler's body, its answer's forms, and the media type it may stream instead."""

    takes: Any = None
    gives: tuple[Any, ...] = ()
    streams: str | None = None


def described(*gives: Any, takes: Any = None, streams: str | None = None) -> dict[str, Any]:
    """A handler's `opt`: the types its answer may be written from, and its body is read as."""
    return {DESCRIBED: Described(takes=takes, gives=gives, streams=streams)}


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
    types = list(dict.fromkeys(one for _, opt in operations for one in _named(opt)))
    refs, components = msgspec.json.schema_components(types, ref_template=REF)
    known = dict(zip(types, refs, strict=True))
    for operation, opt in operations:
        _describe(operation, opt, known)
    schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
    return schema


def _operations(
    app: Litestar, schema: dict[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for route in app.routes:
        item = schema["paths"].get(route.path_format or "/")
        if item is None or not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            for method in handler.http_methods:
                if (operation := item.get(method.lower())) and DESCRIBED in handler.opt:
                    yield operation, handler.opt


def _named(opt: dict[str, Any]) -> Iterator[Any]:
    told: Described = opt[DESCRIBED]
    yield from (one for one in (told.takes, *told.gives, opt.get(ERRORS)) if one is not None)


def _describe(operation: dict[str, Any], opt: dict[str, Any], known: dict[Any, Any]) -> None:
    told: Described = opt[DESCRIBED]
    if told.takes is not None:
        operation["requestBody"] = {"required": True, "content": _content([known[told.takes]])}
    if told.gives:
        content = _content([known[one] for one in told.gives])
        if told.streams:
            content[told.streams] = {"schema": {"type": "string"}}
        operation["responses"]["200"] = {"description": "The answer", "content": content}
    shape = _content([known[opt[ERRORS]]]) if opt.get(ERRORS) else {}
    for status, why in {**(BODY_STATUSES if told.takes else {}), **STATUSES}.items():
        operation["responses"][str(status)] = {"description": why, "content": shape}


def _content(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
