"""Errors of the routes about models: Docker's words, in the shape of all errors here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from litestar import Response

from api.dialects.openai.errors import answer_of
from api.dialects.openai.errors import respond as respond_openai
from api.faults import MethodNotAllowed, headers_of
from shared.errors import CaravanError, NotFound, UnknownModel
from shared.model_errors import BadReference, Unauthorized, UnsupportedArtifact

WORDS = {
    UnknownModel.code: "Model not found",
    Unauthorized.code: "Unauthorized",
    BadReference.code: "Invalid model reference",
    UnsupportedArtifact.code: "error while pulling model",
}


@contextmanager
def about(what: str) -> Iterator[None]:
    """An error says what was being done."""
    try:
        yield
    except CaravanError as error:
        error.message = f"{what}: {error.message}"
        raise


@contextmanager
def in_words() -> Iterator[None]:
    """An error begins with the words that Docker's clients look for, and says them once."""
    try:
        yield
    except CaravanError as error:
        if words := WORDS.get(error.code):
            start = len(words) + 2 if error.message.lower().startswith(f"{words.lower()}: ") else 0
            error.message = f"{words}: {error.message[start:]}"
        raise


def respond(error: CaravanError) -> Response[bytes]:
    """As everywhere, but a method that is not served is a path that is not there."""
    if not isinstance(error, MethodNotAllowed):
        return respond_openai(error)
    return Response(
        msgspec.json.encode(answer_of(NotFound(error.message))),
        status_code=404,
        headers=headers_of(error),
        media_type="application/json",
    )
