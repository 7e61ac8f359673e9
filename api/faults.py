"""What goes wrong at the edge, as CaravanErrors, for each dialect to give a shape.

A dialect writes one function, `respond(error) -> Response`; `exception_handlers(respond)` gives it
everything: our own errors, Litestar's (404, 405, 413, unreadable bodies), Redis' and bugs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from redis.exceptions import RedisError

from shared import model_errors
from shared.errors import (
    BadTemplate,
    CaravanError,
    ContextTooLong,
    DeadlineExceeded,
    Internal,
    NotFound,
    QueueDown,
    QueueFull,
    RequestError,
    TooLarge,
    Unavailable,
    UnknownModel,
    Unsupported,
    WorkerCrashed,
)
from shared.transfer import Stalled

log = structlog.get_logger()

HTTPRequest = Request[Any, Any, Any]
Respond = Callable[[CaravanError], Response[bytes]]
Handler = Callable[[HTTPRequest, Exception], Response[Any]]

QUEUE_DOWN_RETRY_S = 1
CLIENT_CLOSED = 499  # as nginx counts it; nobody reads it


class MethodNotAllowed(NotFound):
    """The path is known, the method is not served there; `allow` are those that are."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


class ClientGone(Exception):
    """The client left before its answer was ready; whatever was asked for has been cancelled."""


STATUS: dict[str, int] = {
    RequestError.code: 400,
    Unsupported.code: 400,
    ContextTooLong.code: 400,
    BadTemplate.code: 400,
    UnknownModel.code: 404,
    NotFound.code: 404,
    MethodNotAllowed.code: 405,
    TooLarge.code: 413,
    QueueFull.code: 429,
    Internal.code: 500,
    WorkerCrashed.code: 500,
    Unavailable.code: 503,
    QueueDown.code: 503,
    DeadlineExceeded.code: 504,
    model_errors.BadReference.code: 400,
    model_errors.BadArchive.code: 400,
    model_errors.Unauthorized.code: 401,
    model_errors.TagConflict.code: 409,
    model_errors.UnsupportedArtifact.code: 422,
    model_errors.RemoteLimited.code: 429,
    model_errors.NotAStore.code: 500,
    model_errors.StoreDamaged.code: 500,
    model_errors.RemoteDown.code: 502,
    model_errors.BadDigest.code: 502,
    model_errors.NoSpace.code: 507,
    Stalled.code: 504,
    "no_store": 503,
}


def status_of(error: CaravanError) -> int:
    """The HTTP status of an error, where a dialect has no other habit."""
    return STATUS.get(error.code, 500)


def headers_of(error: CaravanError) -> dict[str, str]:
    """Retry-After (whole seconds, at least 1), where coming back later helps; Allow with a 405."""
    match error:
        case MethodNotAllowed(allow=allow):
            return {"allow": allow} if allow else {}
        case QueueFull(retry_after_s=retry_after_s):
            return {"retry-after": str(max(1, math.ceil(retry_after_s)))}
        case QueueDown():
            return {"retry-after": str(QUEUE_DOWN_RETRY_S)}
        case _ if status_of(error) == 503:
            return {"retry-after": str(QUEUE_DOWN_RETRY_S)}
        case _:
            return {}


def as_called(error: CaravanError, names: Mapping[str, str]) -> CaravanError:
    """The same error, with the field at fault as a dialect's clients call it; `names` are theirs
    by the canonical ones."""
    head, dot, rest = (error.param or "").partition(".")
    if head in names and error.param is not None:
        param = f"{names[head]}{dot}{rest}"
        if error.message.startswith(error.param):
            error.message = param + error.message.removeprefix(error.param)
        error.param = param
    return error


def as_error(exception: Exception, *, path: str = "") -> CaravanError:
    """Whatever was raised in a handler, as one of ours. Bugs are logged here, with their trace."""
    match exception:
        case CaravanError():
            return exception
        case HTTPException():
            return _of_litestar(exception, path)
        case RedisError() | ConnectionError():
            log.warning("redis.unreachable", error=str(exception))
            return QueueDown()
        case _:
            log.error("request.crashed", exc_info=exception)
            return Internal()


def _of_litestar(exception: HTTPException, path: str) -> CaravanError:
    match exception.status_code:
        case 404:
            return NotFound(f"there is nothing at {path}")
        case 405:
            allow = (exception.headers or {}).get("allow", "")
            return MethodNotAllowed(f"{path} is not served with this method", allow=allow)
        case 413:
            return TooLarge("the request body is larger than this server accepts")
        case status if status < 500:
            return RequestError(exception.detail)
        case _ if "disconnected" in exception.detail:  # while it sent its body
            return RequestError("the client left before its request had arrived")
        case _:
            log.error("request.crashed", exc_info=exception)
            return Internal()


def exception_handlers(respond: Respond) -> dict[int | type[Exception], Handler]:
    """For a dialect's routers: everything that can be raised, in its shape."""

    def handle(request: HTTPRequest, exception: Exception) -> Response[Any]:
        if isinstance(exception, ClientGone):
            return Response(b"", status_code=CLIENT_CLOSED)
        return respond(as_error(exception, path=request.url.path))

    return {Exception: handle, HTTPException: handle}
