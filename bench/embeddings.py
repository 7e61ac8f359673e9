"""Many texts in one request against one request a text, through the worker's embedding room."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from rich.table import Table

from bench.prompts import prompt
from deploy import embedding_model
from shared.requests import Embed
from workers.embedding import Embeddings
from workers.engine.weights import open_weights

TEXTS, WORDS = 256, 12
ROUNDS = 3


async def embeddings() -> Table:
    """Both ways in turn; the model is all-MiniLM-L6-v2, made if it is not there."""
    embedding_model.main()
    texts = [prompt(seed, words=WORDS) for seed in range(TEXTS)]
    with open_weights(embedding_model.model()) as weights:
        room = Embeddings(weights, weights.vocab)
        try:
            await _ask(room, texts[:8])
            pairs = [
                (await _one_by_one(room, texts), await _ask(room, texts)) for _ in range(ROUNDS)
            ]
        finally:
            room.close()
    single_s, together_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(single / together for single, together in pairs)
    table = Table("one by one s", "together s", "times", title=f"{TEXTS} embeddings")
    table.add_row(f"{single_s:.2f}", f"{together_s:.2f}", f"{ratio:.2f}")
    return table


async def _one_by_one(room: Embeddings, texts: Sequence[str]) -> float:
    return sum([await _ask(room, [text]) for text in texts])


async def _ask(room: Embeddings, texts: Sequence[str]) -> float:
    began_s = time.perf_counter()
    request = Embed(id="bench", model="minilm", inputs=tuple(texts))
    answer = await room.vectors(request, on_stop=_nobody_stops)
    assert answer is not None
    return time.perf_counter() - began_s


def _nobody_stops(_: Callable[[], None]) -> None:
    pass
