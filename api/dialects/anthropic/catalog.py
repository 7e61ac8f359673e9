"""GET models, for Anthropic's own path and for its clients on a path that OpenAI's share."""

from __future__ import annotations

import msgspec
from litestar import Response
from litestar.params import FromPath

from api import body
from api.dialects.anthropic import models
from api.faults import HTTPRequest
from api.service import service_of

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


async def list_models(request: HTTPRequest) -> Response[bytes]:
    """Every model in the catalog, a page of them."""
    page = body.query(request, models.Page)
    cards = await service_of(request).fleet.catalog()
    return Response(_encode(models.listed(tuple(cards.values()), page)), media_type=JSON)


async def get_model(request: HTTPRequest, name: FromPath[str]) -> Response[bytes]:
    """One model, by any of its names."""
    card = await service_of(request).fleet.find(name.removeprefix("/"))
    return Response(_encode(models.shown(card)), media_type=JSON)
