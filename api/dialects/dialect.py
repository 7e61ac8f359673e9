"""What a dialect is to the rest of the api: routers, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Router
from litestar.types import ControllerRouterHandler

from api.faults import Respond, exception_handlers
from api.openapi import ERRORS


class Dialect:
    """A surface. `paths` are the prefixes whose 404 and 405 it answers, the longest match wins."""

    def __init__(self, *, paths: Sequence[str], respond: Respond, errors: Any = None) -> None:
        self.paths = tuple(paths)
        self.respond = respond
        self._errors = errors  # the Struct that `respond` writes, for the OpenAPI document
        self.routers: list[Router] = []

    def mount(self, path: str, handlers: Sequence[ControllerRouterHandler], **more: Any) -> None:
        """Serve `handlers` below `path`, with this dialect's errors; `more` is Router's."""
        self.routers.append(
            Router(
                path,
                route_handlers=handlers,
                exception_handlers=exception_handlers(self.respond),
                opt={ERRORS: self._errors},
                **more,
            )
        )
