"""Errors of the Responses routes: Docker's {"error": {"code", "message"}}, with OpenAI's `type` and
`param` beside them."""

from __future__ import annotations

import msgspec
from litestar import Response

from api.dialects.responses.answers import ErrorBody
from api.faults import as_called, headers_of, status_of
from shared.errors import (
    CaravanError,
    DeadlineExceeded,
    Internal,
    QueueFull,
    RequestError,
    Unavailable,
    Unsupported,
    WorkerCrashed,
)

SERVER = "server_error"
NAMES = {"thinking": "reasoning", "response_format": "text.format", "messages": "input"}
CODES = {Unsupported.code: RequestError.code, QueueFull.code: "rate_limit_exceeded"}
OF_A_RESPONSE = {
    **CODES,
    **{kind.code: SERVER for kind in (Internal, Unavailable, WorkerCrashed, DeadlineExceeded)},
}


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every response that is not 2xx and tells of no stored response."""

    error: ErrorBody


def body_of(error: CaravanError, codes: dict[str, str] = CODES) -> ErrorBody:
    """An error in this surface's words."""
    error = as_called(error, NAMES)
    return ErrorBody(
        code=codes.get(error.code, error.code),
        message=error.message,
        type=_type_of(status_of(error)),
        param=error.param,
    )


def of_response(error: CaravanError) -> ErrorBody:
    """What a failed response says of itself: OpenAI knows one code for all that is ours."""
    return body_of(error, OF_A_RESPONSE)


def respond(error: CaravanError) -> Response[bytes]:
    """The response to a request that failed before it streamed."""
    return Response(
        msgspec.json.encode(ErrorAnswer(body_of(error))),
        status_code=status_of(error),
        headers=headers_of(error),
        media_type="application/json",
    )


def _type_of(status: int) -> str:
    if status == 429:
        return "requests"
    return SERVER if status >= 500 else "invalid_request_error"
