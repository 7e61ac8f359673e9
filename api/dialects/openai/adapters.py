"""GET /lora-adapters: what `lora` may name, as llama-server lists it, of every loaded model."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from litestar import Response, get

from api.faults import HTTPRequest
from api.openapi import described
from api.service import service_of
from shared.presence import WorkerCard


class LoraAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is its place among those of its model; `scale` applies where a request does not name
    it."""

    id: int
    name: str
    model: str
    scale: float = 0.0


def listed(cards: Iterable[WorkerCard]) -> tuple[LoraAdapter, ...]:
    """The adapters of all loaded models, each once, by model and place."""
    models = [one for card in cards for one in card.models]
    found = {(one.model, n, name) for one in models for n, name in enumerate(one.adapters)}
    return tuple(LoraAdapter(id=n, name=name, model=model) for model, n, name in sorted(found))


@get("/lora-adapters", opt=described(list[LoraAdapter]))
async def list_adapters(request: HTTPRequest) -> Response[bytes]:
    """The adapters of the models that are loaded now."""
    cards = await service_of(request).fleet.workers(fresh=True)
    return Response(msgspec.json.encode(listed(cards)), media_type="application/json")
