"""A request, understood: what it continues, what to run, and what to keep of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from api.dialects.responses import answers, items, parse, render, types
from api.dialects.responses.background import Desk
from api.dialects.responses.conversation import messages
from api.responses_store import Background, Lost, ResponsesStore, StoredResponse
from api.service import new_id
from shared.errors import RequestError
from shared.requests import Generate


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A request, understood: what to run, and what to keep of it."""

    asked: types.CreateResponse
    run: Generate
    input: list[items.Json]
    before: tuple[str, ...]


async def understood(asked: types.CreateResponse, store: ResponsesStore, desk: Desk) -> Turn:
    """The turn. Raises RequestError, Unsupported."""
    job = new_id(items.PREFIX)
    given = items.given(asked, response=job)
    before, history = await _history(asked.previous_response_id, store, desk)
    given = items.resolved(given, [*history, *await _referenced(given, history, store)])
    said = messages(asked.instructions, history, given)
    run = parse.generate(asked, job=job, messages=said)
    return Turn(asked=asked, run=run, input=given, before=before)


async def _history(
    last: str | None, store: ResponsesStore, desk: Desk
) -> tuple[tuple[str, ...], list[items.Json]]:
    """The ids of the responses this one continues, and all their items."""
    if last is None:
        return (), []
    newest = await store.load(last)
    if newest and (await desk.look(newest)).open:
        raise RequestError(
            f"Previous response with id {last!r} has not ended", param="previous_response_id"
        )
    try:
        stored = await store.conversation(last)
    except Lost as lost:
        missing = "Previous response" if lost.response == last else "A response before it"
        raise RequestError(
            f"{missing} with id {lost.response!r} not found: it was never stored, has expired or "
            "was deleted",
            param="previous_response_id",
        ) from None
    return (*stored[-1].before, last), [item for one in stored for item in one.items]


async def _referenced(
    given: Sequence[items.Json], history: Sequence[items.Json], store: ResponsesStore
) -> list[items.Json]:
    """The items of every response that a reference points into, unless they are at hand."""
    known = {item["id"] for item in history}
    wanted = {response for item, response in items.references(given).items() if item not in known}
    stored = [await store.load(response) for response in sorted(wanted)]
    return [item for one in stored if one is not None for item in one.items]


def assembly_of(turn: Turn) -> render.Assembly:
    """What tells its answer."""
    return render.Assembly(
        render.head(turn.asked, turn.run, created=int(time.time())),
        first=len(turn.input),
        summarise=parse.summarises(turn.asked),
        seal=parse.includes(turn.asked, parse.SEALED),
        clock=time.time,
    )


def kept(turn: Turn, response: answers.Response) -> StoredResponse:
    """The response as it is stored; one in the background at its beginning."""
    return StoredResponse(
        body=render.encode(response),
        input=turn.input,
        before=turn.before,
        background=_background(turn) if turn.asked.background else None,
        open=bool(turn.asked.background),
    )


def _background(turn: Turn) -> Background:
    return Background(
        model=turn.run.model,
        lane=turn.run.lane,
        summarise=parse.summarises(turn.asked),
        seal=parse.includes(turn.asked, parse.SEALED),
    )
