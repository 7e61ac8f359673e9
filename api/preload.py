"""`X-Preload-Only: true` on a request to a model: have it loaded, answer nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response

from api import body, streaming
from api.faults import HTTPRequest
from api.paths import is_inference
from api.service import new_id, service_of
from shared import refs
from shared.errors import RequestError
from shared.requests import Prompt, Tokenize

HEADER = "x-preload-only"


class Named(msgspec.Struct, frozen=True):
    """All that is looked at: which model. Ollama's older clients say `name`."""

    model: str = ""
    name: str = ""


_decoder = msgspec.json.Decoder(Named)


async def preload_only(request: HTTPRequest) -> Response[Any] | None:
    """The empty answer where the header asks for it, None for every other request.

    Raises what running a job raises; the router of the path gives it a shape.
    """
    if request.headers.get(HEADER, "").lower() != "true":
        return None
    if not is_inference(request.method, request.scope["path"]):
        return None
    found = await body.read(request, _decoder)
    name = found.name or found.model
    if not name:
        raise RequestError("model is required", param="model")
    load = Tokenize(id=new_id("load-"), model=refs.normalize(name), input=Prompt(text=""))
    await streaming.whole(request, service_of(request), load)
    return Response(b"", media_type="application/json")
