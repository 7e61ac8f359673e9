"""The application on a loopback port in a thread of its own, for clients that know no asyncio.

Redis is in memory and the worker has no model: it answers every kind of job with something short.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import fakeredis
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from api.app import Application, create_app
from shared import codec
from shared.events import (
    ChoiceEnd,
    Event,
    Finished,
    ReasoningDelta,
    Scores,
    Started,
    TextDelta,
    Tokens,
    Usage,
    Vectors,
)
from shared.requests import Detokenize, Embed, Generate, Request, Rerank, Tokenize
from shared.settings import Settings
from tests.api.conftest import serve
from tests.api.fleet import FakeWorker

USAGE = Usage(prompt_tokens=4, completion_tokens=2)
HALVES = b"\x00\x00\x00\x3f\x00\x00\x80\x3e"  # 0.5, 0.25
START_LIMIT_S = 30.0


def answers(request: Request) -> Sequence[Event]:
    """A short answer of the right kind."""
    match request:
        case Generate(choices=choices):
            ends = (ChoiceEnd(),) * choices
            said = [TextDelta(text="word", choice=n) for n in range(choices)]
            thought = ReasoningDelta(text="hm")
            return (Started(prompt_tokens=4), thought, *said, Finished(choices=ends, usage=USAGE))
        case Embed(inputs=inputs):
            return (Vectors(data=HALVES * len(inputs), width=2), Finished(usage=USAGE))
        case Rerank(documents=documents):
            return (Scores(scores=(0.5,) * len(documents)), Finished(usage=USAGE))
        case Tokenize():
            return (Tokens(ids=(1, 2), pieces=(b"a", b"\xff"), text="a"), Finished(usage=USAGE))
        case Detokenize():
            return (Tokens(text="a"), Finished(usage=USAGE))


def fake() -> ArqRedis:
    """An empty Redis in memory."""
    pool = ConnectionPool(
        connection_class=fakeredis.aioredis.FakeAsyncRedisConnection, server=fakeredis.FakeServer()
    )
    return ArqRedis(
        pool,
        job_serializer=codec.serialize_for_arq,
        job_deserializer=codec.deserialize_for_arq,
    )


@contextlib.asynccontextmanager
async def answering(settings: Settings) -> AsyncIterator[str]:
    """An api with a worker behind it; answers the URL."""
    redis = fake()
    app: Application = create_app(settings, redis)
    worker = FakeWorker(ArqRedis(redis.connection_pool))
    await worker.announce()
    async with app.service.running(), worker.serving(answers), serve(app) as url:
        yield url
    await redis.aclose()


@contextlib.contextmanager
def in_a_thread(settings: Settings) -> Iterator[str]:
    """As `answering`, from code that is not asynchronous."""
    started, over, urls = threading.Event(), threading.Event(), list[str]()

    async def run() -> None:
        async with answering(settings) as url:
            urls.append(url)
            started.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(START_LIMIT_S), "the api did not start"
        yield urls[0]
    finally:
        over.set()
        thread.join()
