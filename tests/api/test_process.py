"""`python -m api` as a process: sockets, signals, a Redis that goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from shared.connection import open_redis
from shared.events import ChoiceEnd, Finished, Started, TextDelta
from tests.api.caller import chat
from tests.api.fleet import MODEL, FakeWorker, said
from tests.servers import free_port, redis_binaries, run_redis

CHAT = "/v1/chat/completions"
DROP_IN = "/exp/vDD4.40/engines/llama.cpp/v1/chat/completions"


def environment(**settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CARAVAN_")}
    return kept | {f"CARAVAN_{name.upper()}": str(value) for name, value in settings.items()}


class Api:
    """The process, its port and its Unix socket."""

    def __init__(self, redis_url: str, folder: Path, *, drain_s: float = 20) -> None:
        self.port = free_port()
        self.socket = folder / "api.sock"
        self.log = folder / "api.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api"],
                env=environment(
                    redis_url=redis_url,
                    port=self.port,
                    unix_socket=self.socket,
                    heal_after_s=0.2,
                    ping_s=0.25,
                    drain_timeout_s=drain_s,
                ),
                stderr=log,
            )

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    async def answers(self, path: str, *, status: int = 200) -> httpx.Response:
        """The first answer with that status."""
        async with self.client() as client:
            while self.process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get(path)
                    if answer.status_code == status:
                        return answer
                await asyncio.sleep(0.02)
        raise AssertionError(self.log.read_text())


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a short name: a socket's path may have 107 bytes."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="cv", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
async def real_worker(redis_url: str) -> AsyncIterator[FakeWorker]:
    redis = open_redis(redis_url)
    await redis.flushall()
    worker = FakeWorker(redis)
    await worker.announce()
    yield worker
    await redis.aclose()


@pytest.fixture
async def api(redis_url: str, folder: Path, real_worker: FakeWorker) -> AsyncIterator[Api]:
    api = Api(redis_url, folder)
    try:
        await api.answers("/ready")
        yield api
    finally:
        api.process.kill()
        api.process.wait()


@pytest.mark.redis
async def test_tcp_and_a_unix_socket_are_served_by_one_process(
    api: Api, real_worker: FakeWorker
) -> None:
    transport = httpx.AsyncHTTPTransport(uds=str(api.socket))
    over_unix = httpx.AsyncClient(transport=transport, base_url="http://localhost")
    answering = real_worker.serving(lambda _: said("hello you"))
    async with answering, api.client() as tcp, over_unix as unix:
        whole = await unix.post(DROP_IN, json=chat())
        stream = await tcp.post(CHAT, json=chat(stream=True))
    assert whole.json()["choices"][0]["message"]["content"] == "hello you "
    assert stream.text.endswith("data: [DONE]\n\n")


@pytest.mark.redis
async def test_sigterm_lets_streams_end_and_accepts_no_more(
    api: Api, real_worker: FakeWorker
) -> None:
    async with api.client() as client, client.stream("POST", CHAT, json=chat(stream=True)) as got:
        held = await real_worker.next()
        await held.say(Started(prompt_tokens=1), TextDelta(text="first"))
        lines = got.aiter_lines()
        while "first" not in await anext(lines):
            pass
        api.process.send_signal(signal.SIGTERM)
        await refused(api)
        for _ in range(4):  # pings: the stream goes on well after the signal
            while await anext(lines) != ": ping":
                pass
        await held.say(TextDelta(text="second"), Finished(choices=(ChoiceEnd(),)))
        rest = [line async for line in lines]
    assert any("second" in line for line in rest)
    assert rest[-2] == "data: [DONE]"
    assert await asyncio.to_thread(api.process.wait, 30) == 0
    assert not api.socket.exists()
    assert "Traceback" not in api.log.read_text()


@pytest.mark.redis
@pytest.mark.parametrize("stream", [True, False])
async def test_what_outlasts_the_drain_is_cut_and_cancelled(
    redis_url: str, folder: Path, real_worker: FakeWorker, stream: bool
) -> None:
    api = Api(redis_url, folder, drain_s=0.1)
    await api.answers("/ready")
    async with api.client() as client:
        asking = asyncio.create_task(client.post(CHAT, json=chat(stream=stream)))
        held = await real_worker.next()
        await held.say(Started(prompt_tokens=1), TextDelta(text="first"))
        api.process.send_signal(signal.SIGTERM)
        if stream:
            with pytest.raises(httpx.TransportError):
                await asking
        else:
            assert (await asking).status_code == 500
        assert await asyncio.to_thread(api.process.wait, 30) == 0
    assert (await held.say(TextDelta(text="more"))).name == "CANCELLED"


async def refused(api: Api) -> None:
    """Until nobody accepts on the port."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.02)


@pytest.mark.redis
@pytest.mark.parametrize("stream", [True, False])
async def test_a_closed_connection_frees_its_slot(
    api: Api, real_worker: FakeWorker, stream: bool
) -> None:
    async def ask() -> None:
        async with api.client() as client:
            await client.post(CHAT, json=chat(stream=stream))

    asking = asyncio.create_task(ask())
    held = await real_worker.next()
    await held.say(Started(prompt_tokens=1), TextDelta(text="a"))
    asking.cancel()
    while (await held.say(TextDelta(text="b"))).name != "CANCELLED":
        await asyncio.sleep(0.01)
    await held.say(Finished(choices=(ChoiceEnd(reason="cancelled"),)))
    assert set((await real_worker.queue.depths(MODEL)).values()) == {0}


@pytest.mark.redis
async def test_redis_may_go_and_come_back(folder: Path) -> None:
    binary = redis_binaries()["redis"]
    url = f"unix://{folder / 'r.sock'}"
    api = Api(url, folder)  # there is no Redis yet
    try:
        answer = await api.answers("/v1/models", status=503)
        assert answer.headers["retry-after"] == "1"
        for _ in range(2):
            with run_redis(binary, folder):
                await served(api, url)
            assert (await api.answers("/ready", status=503)).json()["redis"] is False
    finally:
        api.process.kill()
        api.process.wait()
    assert "Traceback" not in api.log.read_text()


async def served(api: Api, url: str) -> None:
    """A chat goes through, over this Redis."""
    redis = open_redis(url)
    worker = FakeWorker(redis)
    await worker.announce()
    await api.answers("/ready")
    async with worker.serving(lambda _: said("back again")), api.client() as client:
        answer = await client.post(CHAT, json=chat())
    assert answer.json()["choices"][0]["message"]["content"] == "back again "
    await redis.aclose()


@pytest.mark.redis
async def test_a_stream_outlives_the_subscription(
    api: Api, real_worker: FakeWorker, redis_url: str
) -> None:
    async with api.client() as client, client.stream("POST", CHAT, json=chat(stream=True)) as got:
        held = await real_worker.next()
        await held.say(Started(prompt_tokens=1), TextDelta(text="one "))
        await real_worker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await held.say(TextDelta(text="two "))
        await held.say(TextDelta(text="three"), Finished(choices=(ChoiceEnd(),)))
        text = "".join([part async for part in got.aiter_text()])
    assert [word in text for word in ("one ", "two ", "three")] == [True] * 3
    assert text.count('"content":"two "') == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "CARAVAN_REDIS_URL is not set"),
        ({"redis_url": "http://x"}, "CARAVAN_REDIS_URL='http://x' cannot be"),
        ({"redis_url": "unix:///x", "port": "many"}, "CARAVAN_PORT='many' cannot be"),
        ({"redis_url": "unix:///x", "prot": 1}, "CARAVAN_PROT is no setting"),
        ({"redis_url": "unix:///x", "port": 0, "unix_socket": "/no/such/folder/s"},
         "CARAVAN_UNIX_SOCKET=/no/such/folder/s"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_starting_is_one_sentence(
    settings: dict[str, object], says: str
) -> None:
    assert says in refusal(**settings)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(redis_url="unix:///x", port=port)
    assert f"127.0.0.1:{port}: Address already in use" in said


def test_a_socket_that_somebody_serves_or_a_file_is_not_taken(folder: Path) -> None:
    (folder / "file").write_text("mine")
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(folder / "s"))
        served.listen()
        for name in ("file", "s"):
            said = refusal(redis_url="unix:///x", port=0, unix_socket=folder / name)
            assert "Address already in use" in said
    assert (folder / "file").read_text() == "mine"


def refusal(**settings: object) -> str:
    """What a process that cannot start says, on its one line."""
    ended = subprocess.run(
        [sys.executable, "-m", "api"],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stderr.startswith("caravan api: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


@pytest.mark.redis
async def test_an_upload_over_the_limit_is_answered(api: Api) -> None:
    async with api.client() as client:
        answer = await client.post(CHAT, content=b" " * (11 * 1024 * 1024))
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert (await client.get("/health")).status_code == 200
