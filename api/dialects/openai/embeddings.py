"""POST /v1/embeddings. Pure."""

from __future__ import annotations

import base64
import sys
from array import array
from typing import Annotated, Literal

from msgspec import Meta

from api.completed import Completed
from api.dialects.openai import answers as wire
from api.dialects.openai.render import encode
from api.dialects.openai.types import TokenId, Wire
from shared import refs
from shared.errors import Internal, RequestError
from shared.events import Vectors
from shared.requests import Embed

FLOAT_BYTES = 4


class EmbeddingRequest(Wire, frozen=True, kw_only=True):
    """`input`: a text, token ids, or several of either. `user` has no effect."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None


def parse(asked: EmbeddingRequest, *, job: str) -> Embed:
    """The canonical request. Raises RequestError."""
    return Embed(
        id=job,
        model=refs.normalize(asked.model),
        inputs=_inputs(asked.input),
        dimensions=asked.dimensions,
    )


def _inputs(given: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    if isinstance(given, str):
        found: tuple[str | tuple[int, ...], ...] = (given,)
    elif all(isinstance(one, int) for one in given):
        found = (tuple(one for one in given if isinstance(one, int)),)
    elif any(isinstance(one, int) for one in given):
        raise RequestError("input: texts and token ids cannot be mixed", param="input")
    else:
        found = tuple(
            one if isinstance(one, str) else tuple(one) for one in given if not isinstance(one, int)
        )
    if not all(found):
        raise RequestError("input: an input cannot be empty", param="input")
    return found


def whole(asked: EmbeddingRequest, done: Completed, *, model: str) -> bytes:
    """The list of vectors, as numbers or as base64 of float32 little-endian."""
    if done.vectors is None:
        raise Internal("the worker answered without vectors")
    used = done.finished.usage
    in_base64 = asked.encoding_format == "base64"
    return encode(
        wire.VectorList(
            object="list",
            model=model,
            data=tuple(
                wire.Vector(
                    object="embedding",
                    index=n,
                    embedding=base64.b64encode(row).decode() if in_base64 else numbers(row),
                )
                for n, row in enumerate(rows(done.vectors))
            ),
            usage=wire.VectorUsage(
                prompt_tokens=used.prompt_tokens, total_tokens=used.prompt_tokens
            ),
        )
    )


def rows(vectors: Vectors) -> list[bytes]:
    """Each vector's bytes."""
    size = FLOAT_BYTES * vectors.width
    return [vectors.data[at : at + size] for at in range(0, len(vectors.data), size)]


def numbers(row: bytes) -> tuple[float, ...]:
    """A vector's numbers."""
    found = array("f", row)
    if sys.byteorder == "big":
        found.byteswap()
    return tuple(found)
