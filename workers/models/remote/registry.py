"""One repository of an OCI registry: the distribution protocol, as far as models need it.

Requests carry our Authorization only to the registry's own origin; upload locations and redirects
may lead elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import msgspec

from shared.model_errors import BadDigest, UnsupportedArtifact
from workers.models.remote.auth import Authorizer
from workers.models.remote.client import (
    allows_plain_http,
    check,
    patiently,
    read_bounded,
)
from workers.models.remote.options import RemoteOptions, Retry
from workers.models.remote.sources import DOCKER_HUB, OciSource
from workers.models.store import digests
from workers.models.store.manifest import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    first_of_index,
    parse,
)

DOCKER_HUB_URL = "https://registry-1.docker.io"
ACCEPT = ", ".join((OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX, DOCKER_INDEX))
Body = Callable[[], AsyncIterator[bytes]]


class Fetched(msgspec.Struct, frozen=True):
    """A manifest's exact bytes and their digest."""

    raw: bytes
    digest: str


class Registry:
    """A repository at `base` (a URL). `name` is what messages call the model."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base: str,
        repository: str,
        *,
        name: str,
        auth: Authorizer,
        retry: Retry,
    ) -> None:
        self._client = client
        self._base = httpx.URL(f"{base}/v2/{repository}/")
        self._name = name
        self._auth = auth
        self.retry = retry

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self._name

    def url(self, path: str) -> httpx.URL:
        """An address in the repository, or the absolute one a registry gave us."""
        return self._base.join(path)

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        checked: bool = True,
    ) -> AsyncIterator[httpx.Response]:
        """One exchange with its body still to be read, logged in if asked to.

        Failures raise what `check` says; `checked=False` leaves 404 and 416 to the caller.
        """
        for attempt in (1, 2):
            async with self._client.stream(
                method,
                url,
                headers={**(headers or {}), **self._authorization(url)},
                content=body() if body else None,
            ) as response:
                refused = response.status_code == 401 and attempt == 1
                if refused and await self._auth.answer(response, name=self._name):
                    continue
                if checked or response.status_code not in (404, 416):
                    await check(response, name=self._name)
                yield response
                return

    def _authorization(self, url: httpx.URL) -> dict[str, str]:
        ours = (url.scheme, url.netloc) == (self._base.scheme, self._base.netloc)
        return {"Authorization": self._auth.header} if ours and self._auth.header else {}

    async def manifest(self, reference: str) -> Fetched:
        """The manifest of a tag or digest; of an index, its first. Retries; digest checked."""
        fetched = await patiently(self.retry, lambda: self._manifest(reference))
        inner = first_of_index(fetched.raw)
        if inner is None:
            return fetched
        fetched = await patiently(self.retry, lambda: self._manifest(inner))
        parse(fetched.raw)
        return fetched

    async def _manifest(self, reference: str) -> Fetched:
        url = self.url(f"manifests/{reference}")
        async with self.send("GET", url, headers={"Accept": ACCEPT}) as response:
            size = int(response.headers.get("Content-Length") or 0)
            if size > MAX_MANIFEST_BYTES:
                raise UnsupportedArtifact(f"the manifest of {self._name} is over 4 MiB")
            raw = await read_bounded(response, MAX_MANIFEST_BYTES)
        digest = digests.of(raw)
        said = reference if digests.is_digest(reference) else digest
        for expected in (said, response.headers.get("Docker-Content-Digest", digest)):
            if expected != digest:
                raise BadDigest(
                    f"{response.url.host} sent a manifest with digest {digest} for {expected}"
                )
        return Fetched(raw, digest)

    @asynccontextmanager
    async def open_blob(self, digest: str, offset: int) -> AsyncIterator[httpx.Response]:
        """A blob's bytes from `offset` on, if the registry can; see the status."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = self.url(f"blobs/{digest}")
        async with self.send("GET", url, headers=headers, checked=False) as response:
            if response.status_code != 416:
                await check(response, name=self._name)
            yield response


async def read_blob(registry: Registry, blob: Descriptor, *, limit: int) -> bytes:
    """A small blob whole, not stored. RemoteDown above `limit` bytes, BadDigest for wrong ones."""

    async def attempt() -> bytes:
        async with registry.open_blob(blob.digest, 0) as response:
            return await read_bounded(response, limit)

    raw = await patiently(registry.retry, attempt)
    if digests.of(raw) != blob.digest:
        raise BadDigest(f"{registry.name}: wrong bytes for {blob.digest}")
    return raw


def registries(
    client: httpx.AsyncClient,
    source: OciSource,
    options: RemoteOptions,
    *,
    token: str = "",
    mirrors: bool = True,
) -> list[Registry]:
    """Where to ask for a source, in order: Docker Hub's mirrors, then its own host."""
    bases = [_base(source.host, options)]
    if source.host == DOCKER_HUB and mirrors:
        bases = [*(mirror.rstrip("/") for mirror in options.mirrors), *bases]
    return [
        Registry(
            client,
            base,
            source.repository,
            name=source.ref,
            auth=_authorizer(client, base, source, options, token),
            retry=options.retry,
        )
        for base in bases
    ]


def _authorizer(
    client: httpx.AsyncClient, base: str, source: OciSource, options: RemoteOptions, token: str
) -> Authorizer:
    """A mirror has its own login; the caller's token is for the source's host alone."""
    own = base == _base(source.host, options)
    host = source.host if own else httpx.URL(base).netloc.decode()
    return Authorizer(client, options.logins.get(host), token if own else "")


def _base(host: str, options: RemoteOptions) -> str:
    if host == DOCKER_HUB:
        return DOCKER_HUB_URL
    return f"{'http' if allows_plain_http(host, options) else 'https'}://{host}"
