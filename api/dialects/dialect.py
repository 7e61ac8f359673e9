"""What a dialect is to the rest of the api: routers, and how it says that something went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Router
from litestar.types import ControllerRouterHandler

from api.faults import Respond, exception_handlers


class Dialect:
    """A surface. `paths` are the prefixes whose 404 and 405 it answers, the longest match wins."""

    def __init__(self, *, paths: Sequence[str], respond: Respond) -> None:
        self.paths = tuple(paths)
        self.respond = respond
        self.routers: list[Router] = []

    def mount(self, path: str, handlers: Sequence[ControllerRouterHandler], **more: Any) -> None:
        """Serve `handlers` below `path`, with this dialect's errors; `more` is Router's."""
        self.routers.append(
            Router(
                path,
                route_handlers=handlers,
                exception_handlers=exception_handlers(self.respond),
                **more,
            )
        )
