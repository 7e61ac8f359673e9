"""/rerank as llama-server, Jina and TEI have it, /score as vLLM has it. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.completed import Completed
from api.dialects.openai import answers as wire
from api.dialects.openai.render import encode
from api.dialects.openai.types import Wire
from shared import refs
from shared.errors import Internal, RequestError, Unsupported
from shared.requests import Rerank

Texts = Annotated[list[str], Meta(min_length=1)]


class Document(Wire, frozen=True, kw_only=True):
    """A document as an object."""

    text: str


class RerankRequest(Wire, frozen=True, kw_only=True):
    """`documents` is the common form; with `texts` (TEI) the answer is TEI's bare list, and
    `return_text`, `raw_scores` and `truncate` are TEI's."""

    model: Annotated[str, Meta(min_length=1)]
    query: str
    documents: Annotated[list[str | Document], Meta(min_length=1)] | None = None
    texts: Texts | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    user: str | None = None


class ScoreRequest(Wire, frozen=True, kw_only=True):
    """One text against one or many, or many against as many. `user` has no effect."""

    model: Annotated[str, Meta(min_length=1)]
    text_1: str | Texts
    text_2: str | Texts
    user: str | None = None


class Score(wire.Answer, frozen=True, kw_only=True, omit_defaults=False):
    index: int
    object: Literal["score"]
    score: float


class ScoreList(wire.Answer, frozen=True, kw_only=True, omit_defaults=False):
    """vLLM's answer."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: tuple[Score, ...]
    usage: wire.VectorUsage


class TextScore(wire.Answer, frozen=True, kw_only=True):
    """An element of TEI's answer."""

    index: int
    score: float
    text: str | None = None


def documents_of(asked: RerankRequest) -> tuple[str, ...]:
    """What is to be ranked, under either name. Raises RequestError, Unsupported."""
    if (asked.documents is None) == (asked.texts is None):
        raise RequestError("documents: give documents or texts, one of them", param="documents")
    if asked.raw_scores:
        raise Unsupported("raw_scores", "scores are as the model gives them")
    if asked.truncate:
        raise Unsupported("truncate", "a document that is too long is an error")
    if asked.texts is not None:
        return tuple(asked.texts)
    return tuple(one if isinstance(one, str) else one.text for one in asked.documents or ())


def rerank(asked: RerankRequest, *, job: str) -> Rerank:
    """The canonical request."""
    return Rerank(
        id=job,
        model=refs.normalize(asked.model),
        query=asked.query,
        documents=documents_of(asked),
    )


def ranked(asked: RerankRequest, done: Completed, *, model: str) -> bytes:
    """Best first, cut to `top_n`."""
    documents, scores = documents_of(asked), scores_of(done)
    order = sorted(range(len(scores)), key=lambda n: -scores[n])[: asked.top_n]
    if asked.texts is not None:
        return encode(
            [
                TextScore(
                    index=n, score=scores[n], text=documents[n] if asked.return_text else None
                )
                for n in order
            ]
        )
    with_documents = asked.return_documents
    return encode(
        wire.Ranking(
            id=done.job,
            object="list",
            model=model,
            results=tuple(
                wire.Ranked(
                    index=n,
                    relevance_score=scores[n],
                    document={"text": documents[n]} if with_documents else None,
                )
                for n in order
            ),
            usage=_usage([done]),
        )
    )


def scoring(asked: ScoreRequest, *, job: str) -> list[Rerank]:
    """One job for one text against many, else one a pair. Raises RequestError."""
    queries = [asked.text_1] if isinstance(asked.text_1, str) else asked.text_1
    documents = [asked.text_2] if isinstance(asked.text_2, str) else asked.text_2
    if len(queries) == 1:
        pairs = [(queries[0], tuple(documents))]
    elif len(queries) == len(documents):
        pairs = [(query, (document,)) for query, document in zip(queries, documents, strict=True)]
    else:
        raise RequestError("text_2: as many texts as text_1 has, or text_1 one", param="text_2")
    model = refs.normalize(asked.model)
    return [
        Rerank(id=job if n == 0 else f"{job}-{n}", model=model, query=query, documents=texts)
        for n, (query, texts) in enumerate(pairs)
    ]


def scored(done: Sequence[Completed], *, model: str) -> bytes:
    """Scores in the order of the texts."""
    scores = [score for one in done for score in scores_of(one)]
    return encode(
        ScoreList(
            id=done[0].job,
            object="list",
            created=int(time.time()),
            model=model,
            data=tuple(Score(index=n, object="score", score=s) for n, s in enumerate(scores)),
            usage=_usage(done),
        )
    )


def scores_of(done: Completed) -> tuple[float, ...]:
    """The worker's scores. Raises Internal where there are none."""
    if done.scores is None:
        raise Internal("the worker answered without scores")
    return done.scores.scores


def _usage(done: Sequence[Completed]) -> wire.VectorUsage:
    tokens = sum(one.finished.usage.prompt_tokens for one in done)
    return wire.VectorUsage(prompt_tokens=tokens, total_tokens=tokens)


RERANK = msgspec.json.Decoder(RerankRequest)
SCORE = msgspec.json.Decoder(ScoreRequest)
