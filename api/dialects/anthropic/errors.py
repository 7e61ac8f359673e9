"""Anthropic's error types and their statuses."""

from __future__ import annotations

import msgspec
from litestar import Response

from api.dialects.anthropic import answers
from api.faults import as_called, headers_of, status_of
from shared.errors import CaravanError, Internal, QueueDown, Unavailable, WorkerCrashed

OVERLOADED = 529
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    OVERLOADED: "overloaded_error",
}
NAMES = {"continue_final": "messages", "response_format": "output_config.format"}
BROKEN = (Internal, WorkerCrashed, QueueDown)  # not a matter of too much work

_encode = msgspec.json.Encoder().encode


def status(error: CaravanError) -> int:
    """The HTTP status: the vendor's own 529 where the same request will do later."""
    if isinstance(error, Unavailable) and not isinstance(error, BROKEN):
        return status_of(error) if status_of(error) < 500 else OVERLOADED
    return status_of(error)


def body(error: CaravanError) -> answers.Error:
    """The JSON body, or the event that ends a stream."""
    kind = TYPES.get(status(error), "api_error")
    return answers.Error(error=answers.Fault(type=kind, message=as_called(error, NAMES).message))


def respond(error: CaravanError) -> Response[bytes]:
    """The whole response."""
    return Response(
        _encode(body(error)),
        status_code=status(error),
        headers=headers_of(error),
        media_type="application/json",
    )
