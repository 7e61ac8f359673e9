"""Which queue a task on a model goes to, and big bodies to and from the worker that has it.

The api has no store: whoever keeps one says so on its card. A task on a model goes to a store that
has it, one that brings a model here to any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from typing import Any

from api import streaming
from api.faults import HTTPRequest
from api.service import Job, Service, new_id
from shared import keys, refs, transfer
from shared.errors import CaravanError, Unavailable, UnknownModel, error_of
from shared.events import Failed, Stored
from shared.model_errors import TagConflict
from shared.presence import ModelCard
from shared.storing import STORE, Delete, Purge, StoreTask, Task, queue_of


class NoStore(Unavailable):
    """No live worker keeps the store that is needed."""

    code = "no_store"


async def find(service: Service, name: str) -> ModelCard:
    """A model by any name; a bare last path segment will do. Raises UnknownModel."""
    try:
        return await service.fleet.find(name)
    except UnknownModel as error:
        for card in (await service.fleet.catalog()).values():
            if any(_last_segment(tag) == name.strip().lower() for tag in card.tags):
                return card
        raise UnknownModel(f"model not found: {name!r}", param="model") from error


def _last_segment(tag: str) -> str:
    return refs.split_tag(tag)[0].rpartition("/")[2]


async def live(service: Service) -> set[str]:
    """The stores some live worker keeps."""
    cards = await service.fleet.workers(fresh=True)
    return {card.store for card in cards if card.store and not card.draining}


async def anywhere(service: Service) -> str:
    """The queue every store serves. Raises NoStore when there is none."""
    if await live(service):
        return STORE
    raise NoStore("no worker with a model store is running; start one and try again")


async def holding(service: Service, card: ModelCard) -> list[str]:
    """The queues of the live stores that have the model. Raises NoStore when there is none."""
    found = sorted(await live(service) & set(card.stores))
    if found:
        return [queue_of(store) for store in found]
    raise NoStore(f"{card.ref} is on hosts that are away")


async def nearest(service: Service, card: ModelCard) -> str:
    """The queue of one store that has the model, or can have it: by the file its worker serves, or
    from where it was pulled. Raises NoStore."""
    if card.stores:
        with suppress(NoStore):
            return (await holding(service, card))[0]
        return await anywhere(service)
    for worker in await service.fleet.workers():
        if worker.store and any(loaded.model == card.ref for loaded in worker.models):
            return queue_of(worker.store)
    return await anywhere(service)


async def uploaded(service: Service, digest: str) -> str | None:
    """The store that has an uploaded file, None when nobody has it."""
    found = await service.redis.get(keys.uploaded(digest))
    return found.decode() if found and found.decode() in await live(service) else None


async def puller(service: Service, source: str, ref: str = "") -> str:
    """The queue for a pull: of a store that has the model already, else of any. Raises NoStore."""
    card = await service.fleet.model(refs.normalize(ref or source))
    return await nearest(service, card) if card else await anywhere(service)


def asked(task: Task, *, queue: str) -> StoreTask:
    """The task as a job for this queue."""
    return StoreTask(id=new_id("store-"), model=queue, task=task)


def meant(card: ModelCard) -> str:
    """What a store knows a model by: its ID; a file that a worker serves, its name."""
    return card.digest if card.stores else card.ref


async def run(http: HTTPRequest, service: Service, task: Task, queue: str) -> Stored:
    """A task to its end, unless the client leaves first. Raises its CaravanError, ClientGone."""
    await http.body()
    completed = await streaming.whole(http, service, asked(task, queue=queue))
    return completed.stored or Stored()


async def remove(
    http: HTTPRequest, service: Service, name: str, *, force: bool = False
) -> list[Stored]:
    """Delete in every live store that has it; a store that never knew this name is no failure.
    Raises UnknownModel, TagConflict, NoStore."""
    card = await service.fleet.find(name)
    if not card.stores:
        raise TagConflict(
            f"unable to delete {name!r}: resource conflict: its worker was started with this file"
        )
    by_id = refs.is_id(name) or "@" in name
    task = Delete(name=card.digest if by_id else refs.normalize(name), force=force)
    found, unknown = [], None
    for queue in await holding(service, card):
        try:
            found.append(await run(http, service, task, queue))
        except UnknownModel as error:
            unknown = error
    if unknown and not found:
        raise unknown
    return found


async def purge(http: HTTPRequest, service: Service) -> None:
    """Empty every live store. Raises NoStore."""
    await anywhere(service)
    for store in sorted(await live(service)):
        await run(http, service, Purge(), queue_of(store))


async def done(service: Service, job: Job) -> Stored:
    """What a task came to. Raises its CaravanError."""
    completed = await service.collect(job)
    return completed.stored or Stored()


async def upload(service: Service, task: StoreTask, body: AsyncIterator[bytes]) -> Stored:
    """A task that reads a big body. Ends when the task does, whatever is left of the body."""
    async with await service.start(task) as job:
        sending = asyncio.create_task(transfer.send(service.redis, job.id, body))
        collecting = asyncio.create_task(done(service, job))
        try:
            await asyncio.wait({sending, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                await sending  # its error is the one to hear
            return await collecting
        finally:
            await _end([sending, collecting])


async def download(service: Service, task: StoreTask) -> AsyncGenerator[bytes, None]:
    """The big body a task sends; its first piece comes only when the task has begun well. Raises
    the task's CaravanError, also in the middle."""
    async with await service.start(task) as job:
        failing = asyncio.create_task(_failure(job))
        async with aclosing(transfer.receive(service.redis, job.id)) as chunks:
            try:
                while True:
                    taking = asyncio.ensure_future(anext(chunks, None))
                    await asyncio.wait({failing, taking}, return_when=asyncio.FIRST_COMPLETED)
                    if not taking.done() and (error := failing.result()):
                        await _end([taking])
                        raise error
                    if (chunk := await taking) is None:
                        return
                    yield chunk
            finally:
                await _end([failing])


async def _failure(job: Job) -> CaravanError | None:
    """The job's error when it ends with one, None when it ends well."""
    async for events in job.batches():
        if isinstance(events[-1], Failed):
            return error_of(events[-1])
    return None


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
