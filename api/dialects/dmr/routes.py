"""GET / and /version: what clients ask to see whether anybody is there. /engines, /logs."""

from __future__ import annotations

from importlib import metadata

import msgspec
from litestar import Response, get

from api.dialects.dialect import Dialect
from api.dialects.dmr.engines import HANDLERS, configure, not_here
from api.dialects.openai.errors import ErrorAnswer, respond
from api.dialects.openai.routes import known_backend
from api.faults import HTTPRequest
from api.openapi import described

RUNNING = "Docker Model Runner is running"
RUNNING_FOR_OLLAMA = "Ollama is running"


class Version(msgspec.Struct, frozen=True):
    """Which Caravan this is."""

    version: str


def version() -> str:
    """The installed package's version; a checkout that is not installed says so."""
    try:
        return metadata.version("caravan")
    except metadata.PackageNotFoundError:
        return "0.1.0+checkout"


@get("/", media_type="text/plain", sync_to_thread=False)
def root(request: HTTPRequest) -> Response[str]:
    """The sentence that clients look for; Ollama's look for their own."""
    ollama = request.headers.get("user-agent", "").startswith("ollama")
    return Response(RUNNING_FOR_OLLAMA if ollama else RUNNING, media_type="text/plain")


@get("/version", sync_to_thread=False)
def show_version() -> Version:
    """The version as JSON."""
    return Version(version())


@get("/logs", status_code=501, sync_to_thread=False, opt=described(also={501: ErrorAnswer}))
def logs() -> Response[bytes]:
    """Would show the logs."""
    return not_here("logs go where the operator sends them; they are not kept here")


DMR = Dialect(paths=(), respond=respond, errors=ErrorAnswer)
DMR.mount("/", [root, show_version, logs])
DMR.mount("/engines", HANDLERS)
DMR.mount("/engines/{backend:str}", [configure], guards=[known_backend])
