"""What a dialect is to the rest of the api: routers, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar import Response, Router
from litestar.types import ControllerRouterHandler

from api.faults import HTTPRequest, Respond, exception_handlers
from api.openapi import ERRORS, JOB_ERRORS
from api.preload import preload_only

BeforeRequest = Callable[[HTTPRequest], Awaitable[None]]


class Dialect:
    """A surface. `paths` are the prefixes whose 404 and 405 it answers, the longest match wins."""

    def __init__(
        self,
        *,
        paths: Sequence[str],
        respond: Respond,
        errors: Any = None,
        job_errors: dict[int, str] | None = None,
    ) -> None:
        """For the OpenAPI document: `errors` is the Struct that `respond` writes, `job_errors` are
        statuses of the dialect's own that a job may end with, and why."""
        self.paths = tuple(paths)
        self.respond = respond
        self._opt = {ERRORS: errors, JOB_ERRORS: job_errors or {}}
        self.routers: list[Router] = []

    def mount(
        self,
        path: str,
        handlers: Sequence[ControllerRouterHandler],
        *,
        before_request: BeforeRequest | None = None,
        **more: Any,
    ) -> None:
        """Serve `handlers` below `path`, with this dialect's errors; `more` is Router's."""

        async def first(request: HTTPRequest) -> Response[Any] | None:
            if before_request is not None:
                await before_request(request)
            return await preload_only(request)

        self.routers.append(
            Router(
                path,
                route_handlers=handlers,
                exception_handlers=exception_handlers(self.respond),
                opt=self._opt,
                before_request=first,
                **more,
            )
        )
