"""Vectors and relevance scores of one loaded model: text in, numbers out.

The context for them shares the model's weights and is opened when it is first asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from shared.errors import Internal, RequestError
from shared.events import Scores, Vectors
from shared.requests import Embed, Rerank
from workers.engine.embedder import Answer, Embedder, Job, Vector
from workers.engine.plan import EngineError
from workers.engine.vectors import VectorContext
from workers.engine.weights import Weights
from workers.models.vocab import Vocab

Tokens = tuple[int, ...]


class Embeddings:
    """Answers Embed and Rerank. Every method is for the event loop."""

    def __init__(self, weights: Weights, vocab: Vocab, *, threads: int = 0) -> None:
        self._weights = weights
        self._vocab = vocab
        self._threads = threads
        self._opening = asyncio.Lock()
        self._stack = ExitStack()
        self._context: VectorContext | None = None
        self._embedder: Embedder | None = None

    @property
    def is_open(self) -> bool:
        """Whether its context takes memory."""
        return self._context is not None

    async def vectors(self, request: Embed, *, on_stop: _OnStop) -> tuple[Vectors, int] | None:
        """The embeddings and how many tokens they took; None if it was stopped. Raises
        RequestError for what does not fit."""
        context = await self._open()
        if context.ranks:
            raise RequestError(f"{request.model} ranks and gives no embeddings", param="model")
        width = request.dimensions or context.width
        if width > context.width:
            why = f"dimensions: {width} asked, {request.model} has {context.width}"
            raise RequestError(why, param="dimensions")
        texts = await asyncio.to_thread(self._texts, request, context.longest)
        vectors = await self._encode(texts, on_stop)
        if vectors is None:
            return None
        data = b"".join(_finished(vector[:width], request).tobytes() for vector in vectors)
        return Vectors(data=data, width=width), sum(map(len, texts))

    async def scores(self, request: Rerank, *, on_stop: _OnStop) -> tuple[Scores, int] | None:
        """The scores and how many tokens they took; None if it was stopped."""
        context = await self._open()
        if not context.ranks:
            raise RequestError(
                f"{request.model} cannot rank: it is no reranking model", param="model"
            )
        texts = await asyncio.to_thread(self._pairs, request, context.longest)
        vectors = await self._encode(texts, on_stop)
        if vectors is None:
            return None
        return Scores(scores=tuple(float(v[0]) for v in vectors)), sum(map(len, texts))

    def close(self) -> None:
        """Stop the thread and free the context."""
        if self._embedder is not None:
            self._embedder.close()
        self._stack.close()

    async def _open(self) -> VectorContext:
        async with self._opening:
            if self._context is None:
                share = VectorContext.share(self._weights, threads=self._threads)
                self._context = await asyncio.to_thread(self._stack.enter_context, share)
                self._embedder = Embedder(self._context)
            return self._context

    async def _encode(self, texts: Sequence[Tokens], on_stop: _OnStop) -> list[Vector] | None:
        assert self._embedder is not None
        if not texts:
            return []
        answered: asyncio.Future[list[Vector] | EngineError | None]
        answered = asyncio.get_running_loop().create_future()
        job = self._embedder.submit(texts, _answer_to(answered))
        on_stop(partial(_stop, self._embedder, job, answered))
        result = await answered
        if isinstance(result, EngineError):
            raise Internal(f"the embedding failed: {result}")
        return result

    def _texts(self, request: Embed, longest: int) -> list[Tokens]:
        texts = []
        for at, given in enumerate(request.inputs):
            tokens = given if isinstance(given, tuple) else self._tokens(given)
            if any(not 0 <= token < self._vocab.n_vocab for token in tokens):
                raise RequestError(
                    f"input[{at}]: a token id is not in the vocabulary", param="input"
                )
            if not tokens:
                raise RequestError(f"input[{at}] is empty", param="input")
            if len(tokens) > longest and not request.truncate:
                raise RequestError(
                    f"input[{at}] has {len(tokens)} tokens and {request.model} takes {longest}",
                    param="input",
                )
            texts.append(_cut(tokens, longest))
        return texts

    def _tokens(self, text: str) -> Tokens:
        return self._vocab.tokenize(text, add_special=True, parse_special=False)

    def _pairs(self, request: Rerank, longest: int) -> list[Tokens]:
        """Query and document in one sequence each, as llama.cpp's server joins them."""
        vocab = self._vocab
        query = vocab.tokenize(request.query)
        begin = (vocab.bos,) if vocab.adds_bos and vocab.bos >= 0 else ()
        end = (vocab.eos,) if vocab.adds_eos and vocab.eos >= 0 else ()
        middle = (vocab.separator,) if vocab.separator >= 0 else end
        pairs = []
        for at, document in enumerate(request.documents):
            pair = (*begin, *query, *end, *middle, *vocab.tokenize(document), *end)
            if len(pair) > longest:
                why = f"query and documents[{at}] have {len(pair)} tokens together"
                raise RequestError(f"{why} and {request.model} takes {longest}", param="documents")
            pairs.append(pair)
        return pairs


_OnStop = Callable[[Callable[[], None]], None]


def _finished(vector: Vector, request: Embed) -> Vector:
    """Cut vectors are normalised again, as OpenAI's are; a null vector stays null."""
    if not request.normalize:
        return vector.astype(np.float32)
    length = float(np.linalg.norm(vector)) or 1.0
    return (vector / length).astype(np.float32)


def _cut(tokens: Tokens, longest: int) -> Tokens:
    """At most `longest` tokens; the last one, an end marker, is kept."""
    return tokens if len(tokens) <= longest else (*tokens[: longest - 1], tokens[-1])


def _answer_to(future: asyncio.Future[list[Vector] | EngineError | None]) -> Answer:
    loop = asyncio.get_running_loop()

    def settle(result: list[Vector] | EngineError) -> None:
        if not future.done():
            future.set_result(result)

    def answer(result: list[Vector] | EngineError) -> None:
        loop.call_soon_threadsafe(settle, result)

    return answer


def _stop(
    embedder: Embedder, job: Job, future: asyncio.Future[list[Vector] | EngineError | None]
) -> None:
    embedder.cancel(job)
    if not future.done():
        future.set_result(None)
