"""Is it alive, can it work, what does it count: /health, /ready, /metrics.

/health: this process answers. /ready: Redis answers, this process hears its frames, and a worker
that takes work is there; 503 otherwise, with the same body, so that it says what is missing.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, Router, get
from redis.exceptions import RedisError

from api.faults import HTTPRequest, exception_handlers
from api.metrics import CONTENT_TYPE, page
from api.openapi import described
from api.service import Service, service_of
from shared import presence
from shared.presence import WorkerCard


class Health(msgspec.Struct, frozen=True):
    """The api process answers."""

    status: str = "ok"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What `/ready` looked at; ready when all is there."""

    ready: bool
    redis: bool
    inbox: bool
    workers: int
    models: list[str]


@get("/health", sync_to_thread=False, opt=described(Health))
def health() -> Health:
    """This process lives."""
    return Health()


@get("/ready", opt=described(Ready, also={503: Ready}))
async def ready(request: HTTPRequest) -> Response[Ready]:
    """200 when a chat would be served now, 503 with the reasons otherwise."""
    found = await look(service_of(request))
    return Response(found, status_code=200 if found.ready else 503)


async def look(service: Service) -> Ready:
    """What there is. Never raises."""
    try:
        cards = [card for card in await service.fleet.workers(fresh=True) if not card.draining]
    except (RedisError, OSError):
        return Ready(ready=False, redis=False, inbox=False, workers=0, models=[])
    cards = [card for card in cards if card.pool or _holds_some(card)]
    models = {loaded.model for card in cards for loaded in card.models if loaded.state == "ready"}
    inbox = service.inbox.is_open
    return Ready(
        ready=bool(cards) and inbox,
        redis=True,
        inbox=inbox,
        workers=len(cards),
        models=sorted(models),
    )


def _holds_some(card: WorkerCard) -> bool:
    """Whether it could answer somebody: it is past loading its first model."""
    return any(loaded.state == "ready" for loaded in card.models)


@get("/metrics", opt=described(streams=CONTENT_TYPE))
async def metrics(request: HTTPRequest) -> Response[bytes]:
    """Prometheus text: this api, every live worker, every queue."""
    service = service_of(request)
    texts, depths = [], {}
    try:
        texts = [text for _, text in await presence.workers(service.redis)]
        for model in await service.fleet.catalog():
            depths[model] = await service.queue.depths(model)
    except (RedisError, OSError):
        service.metrics.redis_up.set(0)
    else:
        service.metrics.redis_up.set(1)
    return Response(page(service.metrics, texts, depths), media_type=CONTENT_TYPE)


def router(respond: Any) -> Router:
    """The three, with the given error shape."""
    return Router(
        "/",
        route_handlers=[health, ready, metrics],
        exception_handlers=exception_handlers(respond),
    )
