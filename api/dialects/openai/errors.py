"""Errors as OpenAI shapes them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import msgspec
from litestar import Response

from api.faults import as_called, headers_of, status_of
from shared.errors import CaravanError, QueueFull, RequestError, Unsupported


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong; `param` names the field at fault, `code` is stable."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every response that is not 2xx, and of an error inside a stream."""

    error: ErrorBody


NAMES = {
    "thinking": "reasoning_effort",
    "template_options": "chat_template_kwargs",
    "continue_final": "continue_final_message",
}
CODES = {
    RequestError.code: "invalid_value",
    Unsupported.code: "unsupported_parameter",
    QueueFull.code: "rate_limit_exceeded",
}


def answer_of(error: CaravanError) -> ErrorAnswer:
    """An error in OpenAI's words."""
    error = as_called(error, NAMES)
    return ErrorAnswer(
        ErrorBody(
            message=error.message,
            type=_type_of(status_of(error)),
            param=error.param,
            code=CODES.get(error.code, error.code),
        )
    )


def respond(error: CaravanError) -> Response[bytes]:
    """The response to a request that failed before it streamed."""
    return Response(
        msgspec.json.encode(answer_of(error)),
        status_code=status_of(error),
        headers=headers_of(error),
        media_type="application/json",
    )


def _type_of(status: int) -> str:
    if status == 429:
        return "requests"
    return "server_error" if status >= 500 else "invalid_request_error"
