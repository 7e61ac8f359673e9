"""llama-server, where it is on PATH: a process of it, and the load of `bench gains`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from tests.servers import free_port
from workers.engine.runner import usable_cores

CHAT = "/v1/chat/completions"
START_LIMIT_S = 120.0


def measure(
    program: str,
    model: Path,
    prompts: Sequence[tuple[int, ...]],
    *,
    answer_tokens: int,
    rounds: int,
) -> list[tuple[float, float]]:
    """(seconds to the last token, to the last first token) of each round; a fresh server each."""
    times_s = []
    for _ in range(rounds):
        longest = max(map(len, prompts)) + answer_tokens
        with serve(program, model, slots=len(prompts), context=longest * len(prompts)) as url:
            times_s.append(_together(url, prompts, answer_tokens))
    return times_s


@contextmanager
def serve(
    program: str, model: Path, *, slots: int | None = None, context: int | None = None
) -> Iterator[str]:
    """The URL of a server with as many threads as a worker has; without `slots` and `context`
    (tokens, of all slots together) it chooses both itself."""
    port = free_port()
    command = [program, "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["-t", str(usable_cores())]
    command += ["-np", str(slots)] if slots else []
    command += ["-c", str(context)] if context else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def slots_of(url: str) -> int:
    """How many sequences it decodes together."""
    return int(httpx.get(f"{url}/props").raise_for_status().json()["total_slots"])


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError("llama-server does not start")


def _together(
    url: str, prompts: Sequence[tuple[int, ...]], answer_tokens: int
) -> tuple[float, float]:
    ask = partial(_ask, url, answer_tokens=answer_tokens)
    began_s = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        firsts_s = list(pool.map(ask, prompts))
    return time.perf_counter() - began_s, max(firsts_s) - began_s


def _ask(url: str, tokens: tuple[int, ...], *, answer_tokens: int) -> float:
    """When the first token came."""
    body = {"prompt": list(tokens), "n_predict": answer_tokens, "temperature": 0, "stream": True}
    body |= {"ignore_eos": True, "cache_prompt": True}
    first_s = 0.0
    with httpx.stream("POST", f"{url}/completion", json=body, timeout=600) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if line.startswith("data: "):
                first_s = first_s or time.perf_counter()
    return first_s
