"""Many texts in one request against one request a text: in the worker's room, and over HTTP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import httpx
from rich.table import Table

from bench.prompts import prompt
from deploy import embedding_model
from shared.requests import Embed
from tests.system.fleet import fleet
from workers.embedding import Embeddings
from workers.engine.weights import open_weights

TEXTS, WORDS = 256, 12
ROUNDS = 3
MODEL = "ai/all-minilm"

Ask = Callable[[Sequence[str]], Awaitable[None]]


async def embeddings() -> Table:
    """The model is all-MiniLM-L6-v2, made if it is not there."""
    embedding_model.main()
    table = Table("", "one by one s", "together s", "times", title=f"{TEXTS} embeddings")
    table.add_row("in the worker", *await _in_worker())
    table.add_row("over HTTP", *await _over_http())
    return table


async def _in_worker() -> tuple[str, str, str]:
    with open_weights(embedding_model.model()) as weights:
        room = Embeddings(weights, weights.vocab)

        async def ask(texts: Sequence[str]) -> None:
            request = Embed(id="bench", model=MODEL, inputs=tuple(texts))
            assert await room.vectors(request, on_stop=lambda _: None) is not None

        try:
            return await _measure(ask)
        finally:
            room.close()


async def _over_http() -> tuple[str, str, str]:
    async with fleet(model=f"{MODEL}={embedding_model.model()}") as house:
        house.api()
        house.worker()
        await house.ready()
        async with httpx.AsyncClient(base_url=house.url, timeout=60) as client:

            async def ask(texts: Sequence[str]) -> None:
                body = {"model": MODEL, "input": texts}
                (await client.post("/v1/embeddings", json=body)).raise_for_status()

            return await _measure(ask)


async def _measure(ask: Ask) -> tuple[str, str, str]:
    """Both ways in turn, after a warm-up: medians of seconds, and of their ratios."""
    texts = [prompt(seed, words=WORDS) for seed in range(TEXTS)]
    await ask(texts[:8])
    pairs = []
    for _ in range(ROUNDS):
        single_s = [await _timed(ask, [text]) for text in texts]
        pairs.append((sum(single_s), await _timed(ask, texts)))
    single, together = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(single / together for single, together in pairs)
    return f"{single:.2f}", f"{together:.2f}", f"{ratio:.2f}"


async def _timed(ask: Ask, texts: Sequence[str]) -> float:
    began_s = time.perf_counter()
    await ask(texts)
    return time.perf_counter() - began_s
