"""Responses that run in the background: begun, looked at, followed again, cancelled.

All there is of one is its job: whoever asks reads the journal, in whichever api process, and
whoever first sees the end keeps the response as any other is kept. So neither a client nor an api
process has to stay for it.
"""

from __future__ import annotations

import time

import msgspec
from redis.exceptions import RedisError

from api.dialects.responses import answers
from api.dialects.responses.render import Assembly, encode
from api.inbox import Mailbox
from api.responses_store import ResponsesStore, StoredResponse
from api.service import Job, Service
from shared.errors import QueueDown, RequestError, Unavailable
from shared.events import ChoiceEnd, Event, Failed, Finished
from shared.queue import Outcome
from shared.requests import Generate, Prompt

LOST = "the queue has lost this job; send the request again"
STOPPED = Finished(choices=(ChoiceEnd(reason="cancelled"),))

_response = msgspec.json.Decoder(answers.Response).decode


class Desk:
    """One tenant's responses in the background. Raises redis.RedisError where nothing else is
    said."""

    def __init__(self, service: Service, store: ResponsesStore) -> None:
        self._service = service
        self._store = store

    async def begin(self, run: Generate, stored: StoredResponse) -> Job:
        """Make it a job that stays, and keep its beginning. Raises as Service.start."""
        job = await self._service.start(run, keep_s=self._service.settings.responses_ttl_s)
        try:
            assert stored.background is not None
            told = msgspec.structs.replace(stored.background, model=job.model)
            await self._store.save(run.id, msgspec.structs.replace(stored, background=told))
        except (RedisError, OSError):
            await job.cancel()
            await job.close()
            raise QueueDown from None
        return job

    async def look(self, stored: StoredResponse) -> StoredResponse:
        """The response as far as it is, and kept if that is its end."""
        if not stored.open:
            return stored
        head = _response(stored.body)
        outcome = await self._service.queue.outcome(head.id)  # before the journal: it has the end
        events = await Mailbox(self._service.redis, head.id).heal()
        assembly = assembly_of(stored, outcome)
        for _ in assembly.feed((*events, *_unsaid(events, outcome))):
            pass
        if outcome is None or outcome.is_over:
            return await self.settle(stored, assembly.response)
        return msgspec.structs.replace(stored, body=encode(assembly.so_far()))

    async def settle(self, stored: StoredResponse, response: answers.Response) -> StoredResponse:
        """Keep the whole response, unless it was deleted meanwhile."""
        ended = msgspec.structs.replace(stored, body=encode(response), open=False)
        await self._store.settle(response.id, ended)
        return ended

    async def follow(self, stored: StoredResponse) -> tuple[Job, Assembly]:
        """Its job from the first event on, and what tells it. Raises RequestError."""
        name, background = _response(stored.body).id, stored.background
        outcome = await self._service.queue.outcome(name) if background else None
        if background is None:
            raise RequestError("stream: only what runs in the background streams again")
        if outcome is None:
            raise RequestError("stream: its events are no longer kept; retrieve it whole")
        nothing = Prompt(text="")  # what it was asked is no matter any more
        asked = Generate(id=name, model=background.model, lane=background.lane, input=nothing)
        return await self._service.follow(asked), assembly_of(stored, outcome)

    async def cancel(self, stored: StoredResponse) -> StoredResponse:
        """Stop it, unless it has ended. Raises RequestError."""
        if stored.background is None:
            raise RequestError(
                "only what runs in the background can be cancelled; to stop another answer, close "
                "its connection"
            )
        looked = await self.look(stored)
        if not looked.open:
            return looked
        await self._service.cancel(stored.background.model, job=_response(stored.body).id)
        return await self.look(stored)


def assembly_of(stored: StoredResponse, outcome: Outcome | None) -> Assembly:
    """What tells a response in the background, from its first event on."""
    ended_ms = outcome.ended_ms if outcome else 0
    background = stored.background
    assert background is not None
    return Assembly(
        _beginning(_response(stored.body)),
        first=len(stored.input),
        summarise=background.summarise,
        seal=background.seal,
        clock=lambda: ended_ms / 1000 or time.time(),
    )


def _beginning(response: answers.Response) -> answers.Response:
    """A response as it was when it was accepted."""
    return msgspec.structs.replace(
        response,
        status="queued",
        output=(),
        output_text="",
        completed_at=None,
        error=None,
        incomplete_details=None,
        usage=None,
    )


def _unsaid(events: tuple[Event, ...], outcome: Outcome | None) -> tuple[Event, ...]:
    """The end of a job that has none in its journal."""
    if events and isinstance(events[-1], Finished | Failed):
        return ()
    if outcome is None:
        return (Unavailable(LOST).event(),)
    return (STOPPED,) if outcome.cancelled else ()
