"""Pulling by name. One pull per model at a time however many ask, and few at once per process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

import httpx

from workers.models.remote import from_file, from_hub, from_registry
from workers.models.remote.client import open_client
from workers.models.remote.flights import Flights
from workers.models.remote.options import RemoteOptions
from workers.models.remote.progress import Progress, Report
from workers.models.remote.pulling import Pulled, Pulling
from workers.models.remote.sources import (
    FileSource,
    HubSource,
    OciSource,
    Source,
    UrlSource,
    oci,
    source_of,
)
from workers.models.store.store import Store, StoredModel


class Pulls:
    """Pulls into one store. Made by `open_pulls`; belongs to one event loop."""

    def __init__(self, store: Store, client: httpx.AsyncClient, options: RemoteOptions) -> None:
        self._store = store
        self._client = client
        self._options = options
        self._gate = asyncio.Semaphore(options.max_pulls)
        self.flights: Flights[Pulled] = Flights()

    def pull(
        self, name: str, *, ref: str = "", token: str = ""
    ) -> AsyncGenerator[Progress | Pulled, None]:
        """Bring a model here: Progress values, the last value is Pulled. Raises BadReference now,
        the rest of shared.model_errors and BadModelFile while iterating.

        Callers who want the same model with the same token share one pull. It is cancelled when
        the last of them closes its iterator (contextlib.aclosing); what came stays for next time.
        """
        source = source_of(name, ref=ref)

        async def work(report: Report) -> Pulled:
            async with self._gate:
                return await self._run(source, token, report)

        return self.flights.join((source, token), work)

    async def look(self, name: str, *, token: str = "") -> StoredModel:
        """What the registry has under this name, without pulling it. Raises as `pull` does."""
        return await from_registry.look(oci(name), self._pulling(token, lambda progress: None))

    async def _run(self, source: Source, token: str, report: Report) -> Pulled:
        pulling = self._pulling(token, report)
        match source:
            case OciSource():
                return await from_registry.pull(source, pulling)
            case HubSource():
                return await from_hub.pull(source, pulling)
            case FileSource():
                return await from_file.pull_file(source, pulling)
            case UrlSource():
                return await from_file.pull_url(source, pulling)
            case _:
                assert_never(source)

    def _pulling(self, token: str, report: Report) -> Pulling:
        return Pulling(
            store=self._store,
            client=self._client,
            options=self._options,
            token=token,
            report=report,
        )


@asynccontextmanager
async def open_pulls(store: Store, options: RemoteOptions) -> AsyncIterator[Pulls]:
    """Pulls into `store` for as long as the block lasts; those still running are cancelled."""
    async with open_client(options) as client:
        pulls = Pulls(store, client, options)
        try:
            yield pulls
        finally:
            await pulls.flights.close()
