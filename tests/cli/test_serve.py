"""The whole of `caravan serve`, with a real Redis and stand-ins for api and worker."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cli.serve import settle
from shared.settings import Settings
from tests.cli.processes import Served, alive, until

pytestmark = pytest.mark.redis
Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts one in the test's own data directory."""
    all_served: list[Served] = []

    def start(home: Path | None = None, **more: str) -> Served:
        all_served.append(Served(home or tmp_path / "home", **more))
        return all_served[-1]

    yield start
    for served in all_served:
        served.close()


def test_one_chat_then_the_banner_then_a_clean_end_in_order(serve: Serve) -> None:
    served = serve()
    served.wait_ready()
    served.process.terminate()
    assert served.end() == 0
    assert "A row of camels." in served.output
    assert re.search(r"curl -N http://127\.0\.0\.1:\d+/v1/chat/completions ", served.output)
    assert [line for line in served.diary if "end" in line] == ["api.end", "worker.end"]
    assert not (served.home / "redis" / "redis.sock").exists()
    assert "Traceback" not in served.output


@pytest.mark.parametrize(("given", "pool"), [({}, "true"), ({"CARAVAN_POOL": "false"}, "false")])
def test_its_workers_serve_what_is_pulled_unless_they_shall_not(
    given: dict[str, str], pool: str
) -> None:
    settings, environment = settle(Settings(port=0), given)
    assert environment == {"CARAVAN_POOL": pool, "CARAVAN_PORT": str(settings.port)}


def test_a_killed_worker_api_and_redis_come_back_and_redis_forgets_nothing(serve: Serve) -> None:
    served = serve()
    served.wait_ready()
    os.kill(served.pids("worker")[0], signal.SIGKILL)
    os.kill(served.pids("api")[0], signal.SIGKILL)
    until(lambda: len(served.pids("worker")) == 2, what="the second worker")
    until(lambda: len(served.pids("api")) == 2, what="the second api")
    first = served.redis_pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: served.redis_pid() not in (0, first), what="the second Redis")
    redis = Redis(unix_socket_path=str(served.home / "redis" / "redis.sock"))
    until(lambda: _answers(redis), what="Redis to answer")
    assert redis.get("lives") == b"2"
    redis.close()


def test_a_second_signal_ends_everything_at_once(serve: Serve) -> None:
    served = serve(FALSE_WORKER="linger", CARAVAN_DRAIN_TIMEOUT_S="3600")
    served.wait_ready()
    redis = served.redis_pid()
    served.process.send_signal(signal.SIGINT)
    until(lambda: "api.end" in served.diary, what="the drain")
    served.process.send_signal(signal.SIGINT)
    assert served.end() == 0
    assert "worker.end" not in served.diary
    assert not any(map(alive, [*served.pids("worker"), redis]))


def test_a_worker_that_does_not_drain_is_killed_in_time(serve: Serve) -> None:
    served = serve(FALSE_WORKER="linger", CARAVAN_DRAIN_TIMEOUT_S="0")
    served.wait_ready()
    served.process.terminate()
    assert served.end() == 0
    assert not alive(served.pids("worker")[0])


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent death signal")
def test_nothing_survives_a_killed_supervisor_and_the_next_one_starts(serve: Serve) -> None:
    served = serve()
    served.wait_ready()
    pids = [served.redis_pid(), *served.pids("api"), *served.pids("worker")]
    served.process.kill()
    served.process.wait()
    until(lambda: not any(map(alive, pids)), what="the children's end")
    again = serve()
    again.wait_ready()


def test_two_on_one_data_directory_is_a_sentence(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    first.wait_ready()
    second = serve()
    assert second.end() == 1
    assert f"already runs on {tmp_path / 'home'} (process {first.process.pid})" in second.output
    assert first.process.poll() is None


def test_a_port_in_use_is_a_sentence(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = serve(CARAVAN_PORT=str(port))
        assert served.end() == 1
    assert served.output.startswith(f"caravan: port {port} on 127.0.0.1 is in use")
    assert served.output.count("\n") == 1


def test_a_worker_that_refuses_ends_the_start(serve: Serve) -> None:
    served = serve(FALSE_WORKER="refuse")
    assert served.end() == 1
    assert "caravan worker: this model is too large" in served.output
    assert "caravan: worker-1 does not start; it says why above" in served.output
    assert "Traceback" not in served.output


def test_a_model_that_is_no_model_is_a_sentence(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("not a model")
    served = serve(CARAVAN_MODEL=f"mine={path}")
    assert served.end() == 1
    assert served.output == f"caravan: the model {path} is not a GGUF file\n"


def test_a_data_directory_that_cannot_be_is_a_sentence(serve: Serve, tmp_path: Path) -> None:
    served = serve(CARAVAN_DATA_DIR="/dev/null/caravan")
    assert served.end() == 1
    assert served.output == "caravan: cannot use /dev/null/caravan/redis: Not a directory\n"


def test_another_redis_is_used_and_not_stopped(serve: Serve, redis_url: str) -> None:
    served = serve(CARAVAN_REDIS_URL=redis_url)
    served.wait_ready()
    assert not served.redis_pid()
    served.process.terminate()
    assert served.end() == 0
    redis = Redis.from_url(redis_url)
    assert redis.getdel("lives") == b"1"
    redis.close()


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
