"""What is measured side by side: the bare loop, and servers of chats over HTTP.

Of a server everything is asked as its callers do who say nothing: llama-server keeps prompts in its
cache (`cache_prompt`) as Caravan does, and the prompts differ, so that both find there no more than
the system prompt that the template puts in front.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import llama_server
from bench.engine_loop import Loop, Run
from bench.load import Load, chat_together
from bench.prompts import prompt
from bench.rounds import LLAMA, System
from tests.system.fleet import MODEL

SLOT_CONTEXT = 1024  # tokens of context of each of llama-server's slots; a stream has about 200


def bare(loop: Loop) -> System:
    """The engine loop."""

    async def answer(seeds: Sequence[int], tokens: int) -> Run:
        return loop.run(seeds, tokens=tokens)

    return answer


def over_http(url: str, path: str) -> System:
    """Whoever speaks OpenAI's chat there. Raises RuntimeError on an answer of another length."""

    async def answer(seeds: Sequence[int], tokens: int) -> Load:
        load = await chat_together(url, path, [body(seed, tokens) for seed in seeds])
        counts = {seen.usage.completion_tokens for seen in load.streams}
        if counts != {tokens}:
            raise RuntimeError(f"{url} answered {sorted(counts)} tokens instead of {tokens}")
        return load

    return answer


def body(seed: int, tokens: int) -> dict[str, object]:
    """A chat whose answer has exactly so many tokens."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt(seed)}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


@contextmanager
def with_llama_server(
    ours: Mapping[str, System], model: Path, *, slots: int
) -> Iterator[Mapping[str, System]]:
    """Ours, and llama-server with a slot for each of so many streams where it is on PATH."""
    program = shutil.which("llama-server")
    if program is None:
        yield ours
        return
    context = slots * SLOT_CONTEXT
    with llama_server.serve(program, model, slots=slots, context=context) as url:
        yield {**ours, LLAMA: over_http(url, llama_server.CHAT)}
