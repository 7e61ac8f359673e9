"""The application: routers, lifespan, and the errors no router owns. Nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Response
from litestar.exceptions import HTTPException
from redis.asyncio import Redis

from api import health, openapi
from api.cors import Cors, Origins
from api.dialects import DIALECTS, ROUTERS, dialect_of
from api.dialects.dmr.routes import version
from api.edge import Edge, clean_path
from api.faults import HTTPRequest, as_error
from api.recorder import Recorder
from api.service import Service
from shared.settings import Settings


class Application(Edge):
    """The ASGI application, with the parts that tests and `python -m api` reach for."""

    def __init__(self, litestar: Litestar, service: Service) -> None:
        settings = service.settings
        inner = Recorder(litestar, service) if settings.record_requests else litestar
        super().__init__(Cors(inner, Origins(settings.origins)))
        self.litestar = litestar
        self.service = service


def create_app(settings: Settings, redis: Redis) -> Application:
    """Everything wired; nothing is connected before the lifespan starts."""
    service = Service(redis, settings)

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with service.running():
            yield

    litestar = Litestar(
        route_handlers=[*ROUTERS, health.router(DIALECTS[0].respond)],
        lifespan=[lifespan],
        exception_handlers={Exception: _unrouted, HTTPException: _unrouted},
        request_max_body_size=settings.max_body_bytes,
        logging_config=None,
        openapi_config=openapi.config(version=version()),
    )
    litestar.state.service = service
    return Application(litestar, service)


def _unrouted(request: HTTPRequest, exception: Exception) -> Response[Any]:
    """404 and 405 have no router: the path says whose shape they get."""
    path = clean_path(request.url.path)
    return dialect_of(path).respond(as_error(exception, path=path))
