"""Caravan's own Redis: which program, which folder, and what its file survives."""

from __future__ import annotations

import asyncio
import multiprocessing
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from cli import embedded_redis
from cli.embedded_redis import (
    embedded,
    find_binary,
    last_words,
    quoted,
    socket_path,
    socket_url,
    url_of,
    version,
    wait_until_it_answers,
)
from cli.problems import Problem
from cli.supervisor import Keeper
from shared.connection import open_redis
from shared.settings import Settings

Running = tuple[Keeper, ArqRedis]


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Running]:
    """An embedded Redis and a client of it."""
    async with AsyncExitStack() as stack:
        keeper = Keeper(stack.enter_context(embedded(home)))
        stack.push_async_callback(keeper.stop, within_s=30, hurry=asyncio.Event())
        await keeper.start()
        client = open_redis(await wait_until_it_answers(keeper, home))
        stack.push_async_callback(client.aclose)
        yield keeper, client


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], str]:
    """Makes a program that only prints a version."""

    def make(name: str, says: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.redis
async def test_what_was_written_is_there_after_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, redis):
        await redis.set("a", 1)
    async with running(tmp_path) as (_, redis):
        assert await redis.get("a") == b"1"


@pytest.mark.redis
async def test_a_file_cut_short_still_loads(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, redis):
        await redis.set("a", 1)
        await redis.set("b", "x" * 1000)
    [tail] = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    with tail.open("rb+") as file:
        file.truncate(tail.stat().st_size - 500)
    async with running(tmp_path) as (_, redis):
        assert await redis.get("a") == b"1"
        assert await redis.get("b") is None


@pytest.mark.redis
async def test_a_damaged_file_is_a_problem_in_redis_own_words(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, redis):
        for number in range(100):
            await redis.set(f"key{number}", "x" * 100)
    [tail] = (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof")
    with tail.open("rb+") as file:
        file.seek(200)
        file.write(b"\0" * 200)
    with pytest.raises(Problem, match=r"Redis did not start: .*Bad file format"):
        async with running(tmp_path):
            pass


@pytest.mark.redis
async def test_it_listens_on_its_socket_only_and_for_its_user_only(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, redis):
        config = await redis.config_get("*")
        assert config["port"] == "0"
        assert socket_path(tmp_path).stat().st_mode & 0o777 == 0o700


@pytest.mark.redis
async def test_a_folder_with_spaces_quotes_and_a_long_name(tmp_path: Path) -> None:
    home = tmp_path / ('so "long" a name\\ ' + "x" * 100)
    assert len(str(socket_path(home))) < len(str(home))
    async with running(home) as (_, redis):
        assert await redis.ping()
    shutil.rmtree(socket_path(home).parent)


@pytest.mark.redis
async def test_the_lock_lives_as_long_as_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the `caravan serve` that started it has closed its own copy."""
    monkeypatch.setattr(embedded_redis, "LOCK_WAIT_S", 0.0)
    with embedded(tmp_path) as child:
        keeper = Keeper(child)
        await keeper.start()
        await wait_until_it_answers(keeper, tmp_path)
    with pytest.raises(Problem, match="already runs on"), embedded(tmp_path):
        pass
    await keeper.stop(within_s=30, hurry=asyncio.Event())
    with embedded(tmp_path):
        pass


def _hold_and_die(home: str) -> None:
    lock = embedded(Path(home))
    lock.__enter__()
    signal.raise_signal(signal.SIGKILL)


def test_a_lock_of_the_dead_is_free(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_hold_and_die, args=(str(tmp_path),)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with embedded(tmp_path):
        pass


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(Problem, match="the disk is full"), embedded(tmp_path):
        pass


def test_an_old_redis_is_passed_over(
    program: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = program("old", "Redis server v=6.0.16 sha=00000000:0")
    new = program("new", "Valkey server v=8.0.1 sha=00000000:0")
    monkeypatch.setattr(embedded_redis, "candidates", lambda: [old, new])
    assert find_binary(multi_part=False) == new


def test_a_redis_that_cannot_read_the_file_is_no_redis(
    program: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    six = program("six", "Redis server v=6.2.14 sha=00000000:0")
    monkeypatch.setattr(embedded_redis, "candidates", lambda: [six])
    assert find_binary(multi_part=False) == six
    with pytest.raises(Problem, match=r"no Redis 7\.0 or newer found \(.*six is 6\.2\)"):
        find_binary(multi_part=True)


def test_no_redis_at_all_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "candidates", list)
    with pytest.raises(Problem, match="none on PATH"):
        find_binary(multi_part=False)


@pytest.mark.parametrize("says", ["", "hello", "v=x.y"])
def test_a_program_that_gives_no_version_is_too_old(
    program: Callable[[str, str], str], says: str
) -> None:
    assert version(program("strange", says)) == (0, 0)
    assert version("/no/such/program") == (0, 0)


def test_a_set_redis_wins() -> None:
    assert url_of(Settings(redis_url="redis://elsewhere")) == "redis://elsewhere"
    assert url_of(Settings(data_dir="/a b")) == socket_url(Path("/a b"))
    assert socket_url(Path("/a b")) == "unix:///a%20b/redis/redis.sock"


def test_quotes_in_paths() -> None:
    assert quoted(Path('/a "b\\')) == '"/a \\"b\\\\"'


def test_last_words_prefer_warnings(tmp_path: Path) -> None:
    log = tmp_path / "redis.log"
    assert "says nothing" in last_words(log)
    log.write_text("1:C 1 Jan 2026 # Fatal: no\n1:M 1 Jan 2026 * bye\n")
    assert last_words(log) == f"Fatal: no (all of it: {log})"
