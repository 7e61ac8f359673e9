"""Routes that OpenAI does not have: rerank, score, tokenize, detokenize, apply-template."""

from __future__ import annotations

from litestar import Response, post

from api import body, streaming
from api.dialects.openai import answers, ranking, tokens
from api.faults import HTTPRequest
from api.openapi import described
from api.service import Service, new_id, service_of

JSON = "application/json"


@post(
    "/rerank",
    status_code=200,
    opt=described(
        answers.Ranking,
        list[ranking.TextScore],
        takes=ranking.RerankRequest,
    ),
)
async def rerank(request: HTTPRequest) -> Response[bytes]:
    """Documents by their relevance to a query, best first."""
    wire = await body.read(request, ranking.RERANK)
    asked = ranking.rerank(wire, job=new_id("rerank-"))
    done = await streaming.whole(request, service_of(request), asked)
    return Response(ranking.ranked(wire, done, model=asked.model), media_type=JSON)


@post(
    "/score",
    status_code=200,
    opt=described(
        ranking.ScoreList,
        takes=ranking.ScoreRequest,
    ),
)
async def score(request: HTTPRequest) -> Response[bytes]:
    """How well texts go together, in the order they were sent."""
    wire = await body.read(request, ranking.SCORE)
    asked = ranking.scoring(wire, job=new_id("score-"))
    done = await streaming.wholes(request, service_of(request), asked)
    return Response(ranking.scored(done, model=asked[0].model), media_type=JSON)


@post(
    "/tokenize",
    status_code=200,
    opt=described(
        tokens.Tokenized,
        tokens.Counted,
        takes=tokens.TokenizeRequest,
    ),
)
async def tokenize(request: HTTPRequest) -> Response[bytes]:
    """Token ids of a text or a conversation."""
    wire = await body.read(request, tokens.TOKENIZE)
    service = service_of(request)
    model = await _model(service, wire.model)
    asked = tokens.tokenizing(wire, job=new_id("tokens-"), model=model)
    done = await streaming.whole(request, service, asked)
    card = await service.fleet.find(model)
    return Response(tokens.tokenized(wire, done, context=card.context), media_type=JSON)


@post(
    "/detokenize",
    status_code=200,
    opt=described(
        tokens.Detokenized,
        takes=tokens.DetokenizeRequest,
    ),
)
async def detokenize(request: HTTPRequest) -> Response[bytes]:
    """The text of token ids."""
    wire = await body.read(request, tokens.DETOKENIZE)
    service = service_of(request)
    model = await _model(service, wire.model)
    asked = tokens.detokenizing(wire, job=new_id("tokens-"), model=model)
    return Response(
        tokens.detokenized(await streaming.whole(request, service, asked)), media_type=JSON
    )


@post(
    "/apply-template",
    status_code=200,
    opt=described(
        tokens.Templated,
        takes=tokens.TemplateRequest,
    ),
)
async def apply_template(request: HTTPRequest) -> Response[bytes]:
    """The prompt that the model's template makes of a conversation."""
    wire = await body.read(request, tokens.TEMPLATE)
    service = service_of(request)
    model = await _model(service, wire.model)
    asked = tokens.templating(wire, job=new_id("tokens-"), model=model)
    return Response(
        tokens.templated(await streaming.whole(request, service, asked)), media_type=JSON
    )


async def _model(service: Service, given: str | None) -> str:
    return tokens.model_of(given, {} if given else await service.fleet.catalog())


EXTRAS = (rerank, score, tokenize, detokenize, apply_template)
