"""The Hugging Face Hub: which files a repository has and where they are, by huggingface_hub.

The library settles endpoint (HF_ENDPOINT), tokens, routes and errors. The bytes themselves go
through `fetch` like all others: one resume, one digest check, one copy on disk, and a pull that can
be cancelled.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is re-exported
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from shared.errors import CaravanError
from shared.model_errors import BadReference, ModelNotFound, RemoteDown, Unauthorized
from workers.models.remote.client import check, patiently
from workers.models.remote.fetch import Wanted, wanted
from workers.models.remote.options import RemoteOptions
from workers.models.remote.sources import HubSource
from workers.models.store import digests

LIBRARY = "caravan"


class HubFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a repository at one commit; `want.digest` is empty if the Hub has none."""

    name: str
    url: str
    want: Wanted


class Hub:
    """One repository of the Hub."""

    def __init__(
        self, client: httpx.AsyncClient, source: HubSource, options: RemoteOptions, *, token: str
    ) -> None:
        self._client = client
        self._source = source
        self._options = options
        self._token = token or options.hub_token or None
        self._endpoint = options.hub_endpoint or None
        self._revision = "main"
        self._siblings: dict[str, RepoSibling] = {}

    async def list(self) -> int:
        """Read the repository's files; when it last changed, Unix seconds (0 unknown)."""
        found = await patiently(self._options.retry, lambda: asyncio.to_thread(self._read_info))
        self._revision = found.sha or "main"
        self._siblings = {each.rfilename: each for each in found.siblings or []}
        return int(found.last_modified.timestamp()) if found.last_modified else 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files, after `list`."""
        return tuple(self._siblings)

    def _read_info(self) -> ModelInfo:
        api = HfApi(endpoint=self._endpoint, token=self._token, library_name=LIBRARY)
        try:
            return api.model_info(
                self._source.repository,
                revision="main",
                timeout=self._options.timeout_s,
                files_metadata=True,
            )
        except (HTTPError, ValueError, TypeError, KeyError) as error:
            raise _in_our_words(error, self._source.repository) from error

    async def file(self, name: str) -> HubFile:
        """Where a file is, its size and digest."""
        url = hf_hub_url(
            self._source.repository, name, revision=self._revision, endpoint=self._endpoint
        )
        listed = self._siblings[name]
        if listed.lfs and digests.HEX.fullmatch(listed.lfs.sha256):
            digest = digests.PREFIX + listed.lfs.sha256
            return HubFile(name=name, url=url, want=wanted(digest, listed.lfs.size))
        return await patiently(
            self._options.retry, lambda: asyncio.to_thread(self._ask_for, name, url)
        )

    def _ask_for(self, name: str, url: str) -> HubFile:
        """By a HEAD: a file's ETag is its sha256 where it lies in large-file storage."""
        try:
            found = get_hf_file_metadata(
                url, token=self._token, timeout=self._options.timeout_s, endpoint=self._endpoint
            )
        except (HTTPError, ValueError) as error:
            raise _in_our_words(error, self._source.repository) from error
        etag = found.etag or ""
        if digests.HEX.fullmatch(etag):
            return HubFile(name=name, url=url, want=wanted(digests.PREFIX + etag, found.size))
        key = hashlib.sha256(f"{url} {etag}".encode()).hexdigest()
        return HubFile(name=name, url=url, want=Wanted(key=key, size=found.size))

    @asynccontextmanager
    async def open(self, file: HubFile, offset: int) -> AsyncIterator[httpx.Response]:
        """The file's bytes from `offset` on."""
        headers = build_hf_headers(token=self._token, library_name=LIBRARY)
        if offset:
            headers["Range"] = f"bytes={offset}-"
        async with self._client.stream("GET", file.url, headers=headers) as response:
            if response.status_code != 416:
                await check(response, name=f"{self._source.repository}/{file.name}")
            yield response


def _in_our_words(error: Exception, repository: str) -> CaravanError:
    match error:
        case GatedRepoError():
            return Unauthorized(
                f"{repository} is gated: accept its terms on its page, then pass a token"
                " of that account (HF_TOKEN or the request's bearer token)",
                param="model",
            )
        case RepositoryNotFoundError():
            return ModelNotFound(
                f"model not found: the Hub has no {repository}, or it is private and needs a token",
                param="model",
            )
        case HfHubHTTPError():
            return _by_status(error, repository)
        case HFValidationError():
            return BadReference(f"{repository} cannot be a repository: {error}", param="model")
        case HTTPError():
            return RemoteDown(f"the Hub cannot be reached ({error}); try again")
        case _:
            return RemoteDown(f"the Hub's answer makes no sense ({error}); try again")


def _by_status(error: HfHubHTTPError, repository: str) -> CaravanError:
    match error.response.status_code:
        case 401 | 403:
            return Unauthorized(f"the Hub does not let us at {repository}: check the token")
        case 404:
            return ModelNotFound(f"model not found: the Hub has no {repository}", param="model")
        case 429:
            return RemoteDown("the Hub limits us; pass a token or try again later", limited=True)
        case status:
            return RemoteDown(f"the Hub answers {status} for {repository}; try again later")
