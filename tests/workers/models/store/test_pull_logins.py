"""Who may pull: logins, tokens, and where redirects and mirrors may take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.model_errors import (
    BadReference,
    RemoteDown,
    Unauthorized,
)
from tests.workers.models.store.conftest import HASTY, pulled, watch
from tests.workers.models.store.files import add_model
from tests.workers.models.store.loopback import Answer, Asked, Play, registry_of, serve
from workers.models.remote.options import Login, RemoteOptions
from workers.models.remote.pull import Pulls, open_pulls
from workers.models.store.manifest import parse
from workers.models.store.store import Store, StoredModel

SIZE = 40_000


@pytest.fixture
def model(other: Store, tmp_path: Path) -> StoredModel:
    """What the remote has."""
    return add_model(other, tmp_path, "m", size=SIZE)


@pytest.fixture
def honest(other: Store, model: StoredModel) -> Play:
    """A registry that has it."""
    return registry_of(other, model.id)


@pytest.fixture
def weights(other: Store, model: StoredModel) -> str:
    """Digest of the weights."""
    return parse(other.manifest_raw(model.id)).layers[0].digest


async def test_basic_login(store: Store, model: StoredModel, honest: Play) -> None:
    def play(request: Asked) -> Answer:
        if request.headers.get("authorization") != "Basic bWU6c2VjcmV0":
            return Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return honest(request)

    with serve(play) as server:
        for password, fails in (("wrong", True), ("secret", False)):
            logins = {server.host: Login("me", password)}
            options = RemoteOptions(retry=HASTY, logins=logins)
            async with open_pulls(store, options) as pulls:
                if fails:
                    with pytest.raises(Unauthorized, match="login"):
                        await watch(pulls.pull(f"{server.host}/org/m"))
                else:
                    assert (await pulled(pulls.pull(f"{server.host}/org/m"))).id == model.id


def token_service(honest: Play, server: Callable[[], str]) -> Play:
    """A registry whose tokens come from a service beside it and last for two requests."""
    uses = 0

    def play(request: Asked) -> Answer:
        nonlocal uses
        if request.path == "/token":
            uses = 2
            assert request.query == "service=s&scope=repository%3Aorg%2Fm%3Apull"
            return Answer(body=b'{"token":"t0ken"}')
        uses -= 1
        if request.headers.get("authorization") != "Bearer t0ken" or uses < 0:
            realm = f'Bearer realm="http://{server()}/token",service="s"'
            header = f'{realm},scope="repository:org/m:pull"'
            return Answer(status=401, headers={"WWW-Authenticate": header})
        return honest(request)

    return play


async def test_token_login_renews_itself(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    host = ""
    with serve(token_service(honest, lambda: host)) as server:
        host = server.host
        assert (await pulled(pulls.pull(f"{host}/org/m"))).id == model.id
        assert server.count("/token") >= 1


async def test_the_callers_token_is_sent_as_it_is(
    pulls: Pulls, model: StoredModel, honest: Play
) -> None:
    with serve(honest) as server:
        await watch(pulls.pull(f"{server.host}/org/m", token="mine"))
        assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer mine"}


async def test_a_redirect_elsewhere_does_not_take_the_token_along(
    store: Store, pulls: Pulls, model: StoredModel, honest: Play, weights: str
) -> None:
    with serve(honest) as cdn:

        def play(request: Asked) -> Answer:
            if "/blobs/" in request.path:
                return Answer(status=307, headers={"Location": cdn.url + request.path})
            return honest(request)

        with serve(play) as server:
            last = await pulled(pulls.pull(f"{server.host}/org/m", token="mine"))
        assert last.id == model.id
        assert cdn.count(weights) == 1
        assert all("authorization" not in asked.headers for asked in cdn.asked)


async def test_a_redirect_to_plain_http_elsewhere_is_refused(pulls: Pulls) -> None:
    away = Answer(status=307, headers={"Location": "http://example.com/secret"})
    refused = pytest.raises(BadReference, match=r"example\.com asks for plain HTTP")
    with serve(lambda request: away) as server, refused:
        await watch(pulls.pull(f"{server.host}/org/m"))


async def test_redirects_in_a_circle(pulls: Pulls) -> None:
    again = Answer(status=307, headers={"Location": "/again"})
    with serve(lambda request: again) as server, pytest.raises(RemoteDown):
        await watch(pulls.pull(f"{server.host}/org/m"))


async def test_mirrors_are_asked_first_and_may_fail(
    store: Store, model: StoredModel, honest: Play
) -> None:
    with serve(lambda request: Answer(status=404)) as empty, serve(honest) as mirror:
        options = RemoteOptions(retry=HASTY, mirrors=(empty.url, mirror.url + "/"))
        async with open_pulls(store, options) as pulls:
            last = await pulled(pulls.pull("org/m", token="for the hub only"))
        assert (last.id, last.ref) == (model.id, "org/m:latest")
        assert empty.count("GET") == 1
        assert all("authorization" not in asked.headers for asked in mirror.asked)
