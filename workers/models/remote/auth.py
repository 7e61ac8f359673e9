"""How a registry is persuaded: a bearer token from its token service, or a basic login."""

from __future__ import annotations

import re

import httpx
import msgspec

from shared.model_errors import Unauthorized
from workers.models.remote.client import check, read_bounded
from workers.models.remote.options import Login
from workers.models.store.untrusted import BadJson, decode

PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Challenge(msgspec.Struct, frozen=True):
    """A WWW-Authenticate header: the scheme in lower case and its parameters."""

    scheme: str
    parameters: dict[str, str]


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


def challenge_of(header: str) -> Challenge:
    """Parsed; an empty scheme if there is no header."""
    scheme, _, rest = header.strip().partition(" ")
    return Challenge(scheme.lower(), dict(PARAMETER.findall(rest)))


class Authorizer:
    """The Authorization header for one registry, renewed when it says 401.

    A caller's own bearer token is sent first and as it is.
    """

    def __init__(self, client: httpx.AsyncClient, login: Login | None, bearer: str) -> None:
        self._client = client
        self._login = login
        self.header = f"Bearer {bearer}" if bearer else ""

    async def answer(self, response: httpx.Response, *, name: str) -> bool:
        """Answer a 401; whether the request is worth repeating."""
        challenge = challenge_of(response.headers.get("WWW-Authenticate", ""))
        match challenge.scheme:
            case "basic" if self._login:
                self.header = httpx.BasicAuth(self._login.user, self._login.password)._auth_header
            case "bearer":
                self.header = f"Bearer {await self._token(challenge, response, name=name)}"
            case _:
                return False
        return True

    async def _token(self, challenge: Challenge, refused: httpx.Response, *, name: str) -> str:
        realm = httpx.URL(challenge.parameters.get("realm", ""))
        if realm.scheme != "https" and refused.url.scheme == "https":
            raise Unauthorized(f"{refused.url.host} sends us to {realm} for a token, without TLS")
        wanted = {
            key: value
            for key, value in challenge.parameters.items()
            if key in ("service", "scope") and value
        }
        auth = httpx.BasicAuth(self._login.user, self._login.password) if self._login else None
        async with self._client.stream(
            "GET", realm.copy_merge_params(wanted), auth=auth
        ) as response:
            await check(response, name=name)
            raw = await read_bounded(response)
        return _token_in(raw, response)


def _token_in(raw: bytes, response: httpx.Response) -> str:
    try:
        found: _Token = decode(raw, _Token)
    except BadJson as error:
        raise Unauthorized(f"{response.url.host} sent no token: {error}") from error
    if not (found.token or found.access_token):
        raise Unauthorized(f"{response.url.host} sent no token")
    return found.token or found.access_token
