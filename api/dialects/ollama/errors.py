"""Ollama's errors: a status and one sentence."""

from __future__ import annotations

import msgspec
from litestar import Response

from api.dialects.ollama import answers
from api.faults import as_called, headers_of, status_of
from shared.errors import CaravanError

NAMES = {"thinking": "think", "response_format": "format", "continue_final": "messages"}

_encode = msgspec.json.Encoder().encode


def body(error: CaravanError) -> answers.Error:
    """The JSON body, or the line that ends a stream."""
    return answers.Error(error=as_called(error, NAMES).message)


def respond(error: CaravanError) -> Response[bytes]:
    """The whole response."""
    return Response(
        _encode(body(error)),
        status_code=status_of(error),
        headers=headers_of(error),
        media_type="application/json",
    )
