"""What is done for each task on a store (shared/storing.py): its Stored, or one of the errors of
shared/model_errors.py. Disk work runs in threads; a cancelled task leaves the store whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import BinaryIO, assert_never, cast

import structlog

from shared import keys, presence, refs, transfer
from shared.errors import CaravanError, RequestError
from shared.events import Progress, Stage, Stored
from shared.model_errors import BadDigest, BadReference, ModelNotFound, UnsupportedArtifact
from shared.storing import (
    Create,
    Delete,
    Export,
    Load,
    Look,
    Pull,
    Purge,
    Push,
    PutFile,
    Tag,
    Task,
)
from workers.models import cards, ensure
from workers.models.depot import Depot
from workers.models.gguf import BadModelFile
from workers.models.inlet import Inlet
from workers.models.remote import progress as remote
from workers.models.remote.pulling import Pulled
from workers.models.remote.push import Pushed
from workers.models.store import archive, digests
from workers.models.store.blobs import Partial
from workers.models.store.derive import Changed, assemble, derive
from workers.models.store.store import Deleted, StoredModel, Untagged
from workers.prompt.template import Template

log = structlog.get_logger()

Tell = Callable[[Progress], None]
Steps = (
    AsyncGenerator[remote.Progress | Pulled, None] | AsyncGenerator[remote.Progress | Pushed, None]
)


async def perform(depot: Depot, task: Task, *, job: str, tell: Tell) -> Stored:
    """Do it. `job` names the transfer of a big body. Raises CaravanError."""
    try:
        return await _perform(depot, task, job, tell)
    except BadModelFile as error:
        raise UnsupportedArtifact(f"the model file cannot be used: {error.message}") from error


async def _perform(depot: Depot, task: Task, job: str, tell: Tell) -> Stored:
    match task:
        case Pull():
            return await _pull(depot, task, tell)
        case Push():
            return await _push(depot, task, tell)
        case Look():
            return await _look(depot, task)
        case Tag():
            return await _tag(depot, task)
        case Delete() | Purge():
            return await _remove(depot, task)
        case Create():
            return await _create(depot, task, tell)
        case Export():
            return await _export(depot, task, job)
        case Load():
            return await _load(depot, job)
        case PutFile():
            return await _put_file(depot, task, job)
        case _:
            assert_never(task)


async def _pull(depot: Depot, task: Pull, tell: Tell) -> Stored:
    if card := await depot.serves_file(task.ref or task.source):
        return Stored(ref=card.ref, id=card.digest, cached=True, size=cards.size_text(card))
    last = await _follow(
        depot.pulls.pull(task.source, ref=task.ref, token=task.token), "pull", tell
    )
    assert isinstance(last, Pulled)
    await depot.announce(origins={last.id: _origin(task.source)})
    return Stored(ref=last.ref, id=last.id, cached=last.cached, size=last.size)


def _origin(source: str) -> str:
    """What to remember of a source: not a login in a URL."""
    source = source.strip()
    if source.startswith(("https://", "http://")):
        return "" if "@" in source.partition("://")[2].partition("/")[0] else source
    if source.startswith(ensure.NOT_OF_A_REGISTRY):
        return source
    return refs.normalize(source)


async def _push(depot: Depot, task: Push, tell: Tell) -> Stored:
    await _here(depot, task.name, tell)
    last = await _follow(depot.pushes.push(task.name, token=task.token), "push", tell)
    return Stored(ref=last.ref, id=last.id)


async def _follow(steps: Steps, stage: Stage, tell: Tell) -> Pulled | Pushed:
    """A transfer to its end; its progress is told."""
    async with aclosing(steps):
        async for step in steps:
            match step:
                case remote.Progress():
                    tell(_told(step, stage))
                case Pulled() | Pushed():
                    return step
                case _:
                    assert_never(step)
    raise AssertionError("a transfer ended without a result")


def _told(step: remote.Progress, stage: Stage) -> Progress:
    return Progress(stage=stage, done=step.done, total=step.total, layer=step.layer, size=step.size)


async def _look(depot: Depot, task: Look) -> Stored:
    try:
        found = await depot.pulls.look(task.name, token=task.token)
    except CaravanError as error:
        error.message = f"failed to pull model {task.name!r}: {error.message}"
        raise
    card = cards.of_remote(found, refs.normalize(task.name))
    return Stored(ref=card.ref, id=found.id, card=presence.pack(card))


async def _here(depot: Depot, name: str, tell: Tell) -> StoredModel:
    """The model, fetched or copied into this store first where that is needed."""
    known = await asyncio.to_thread(depot.store.all)
    try:
        model = await asyncio.to_thread(depot.find, name)
    except ModelNotFound:
        card = await ensure.card_of(depot, name)
        if card is None or not card.stores:
            raise
        await ensure.fetch(depot, card, heard=lambda step: tell(_told(step, "pull")))
        return await asyncio.to_thread(depot.find, card.ref)
    if all(model.id != other.id for other in known):  # the settings' file, a copy of it now
        await depot.announce()
    return model


async def _tag(depot: Depot, task: Tag) -> Stored:
    model = await _here(depot, task.name, lambda progress: None)
    ref = await asyncio.to_thread(depot.store.tag, model.id, task.target)
    await depot.announce()
    return Stored(ref=ref, id=model.id)


async def _remove(depot: Depot, task: Delete | Purge) -> Stored:
    """Out of the index and the catalog; whoever has it loaded is told. What runs ends well: the
    files of an open model stay until it is closed."""
    before = await asyncio.to_thread(depot.store.all)
    match task:
        case Purge():
            await asyncio.to_thread(depot.store.purge)
            actions = []
        case Delete():
            if not task.name.strip():
                raise BadReference("invalid model reference ''", param="model")
            actions = await asyncio.to_thread(depot.store.delete, task.name, force=task.force)
    untagged = tuple(one.ref for one in actions if isinstance(one, Untagged))
    deleted = "".join(one.id for one in actions if isinstance(one, Deleted))
    gone = [model for model in before if isinstance(task, Purge) or model.id == deleted]
    refs_gone = [name for model in gone for name in (*model.tags, model.id)]
    await depot.announce(gone={*untagged, *refs_gone})
    return Stored(untagged=untagged, deleted=deleted)


async def _create(depot: Depot, task: Create, tell: Tell) -> Stored:
    if task.template:
        Template(task.template)  # BadTemplate, if it is none
    changed = Changed(
        template=task.template, licenses=task.licenses, context_size=task.context_size
    )
    if task.files:
        made = await asyncio.to_thread(assemble, depot.store, task.files, task.ref, changed)
    else:
        source = await _here_or_pulled(depot, task.source, tell)
        made = await asyncio.to_thread(derive, depot.store, source, task.ref, changed)
    await depot.announce()
    return Stored(ref=refs.normalize(task.ref), id=made.id)


async def _here_or_pulled(depot: Depot, name: str, tell: Tell) -> str:
    """The ID of a model that is pulled when nobody has it."""
    try:
        return (await _here(depot, name, tell)).id
    except ModelNotFound:
        return (await _pull(depot, Pull(source=name), tell)).id


async def _export(depot: Depot, task: Export, job: str) -> Stored:
    model = await _here(depot, task.name, lambda progress: None)
    pieces = await asyncio.to_thread(archive.export, depot.store, model.id)
    await transfer.send(depot.redis, job, _in_threads(pieces))
    return Stored(id=model.id)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces that come from the disk; empty ones are left out."""
    while True:
        piece = await asyncio.to_thread(_step, pieces)
        if piece is None:
            return
        if piece:
            yield piece


def _step(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _load(depot: Depot, job: str) -> Stored:
    async with aclosing(transfer.receive(depot.redis, job)) as chunks:
        inlet = Inlet(chunks)
        try:
            model = await asyncio.to_thread(archive.load, depot.store, cast(BinaryIO, inlet))
        except asyncio.CancelledError:
            inlet.stop()
            raise
        async for _ in chunks:  # what a tar has behind its end
            continue
    await depot.announce()
    return Stored(id=model.id)


async def _put_file(depot: Depot, task: PutFile, job: str) -> Stored:
    if not digests.is_digest(task.digest):
        raise RequestError(f"{task.digest!r} is no digest: sha256:<64 hex digits>", param="digest")
    blobs = depot.store.blobs
    await asyncio.to_thread(blobs.require_space, task.size)
    partial = await asyncio.to_thread(blobs.new_partial)
    with contextlib.ExitStack() as undo:
        undo.callback(partial.drop)
        async with aclosing(transfer.receive(depot.redis, job)) as chunks:
            async for chunk in chunks:
                await asyncio.to_thread(partial.append, chunk)
        await asyncio.to_thread(_finish, partial, task.digest)
        undo.pop_all()
    await depot.redis.set(keys.uploaded(task.digest), depot.id, ex=keys.FILE_TTL_S)
    return Stored(id=task.digest)


def _finish(partial: Partial, digest: str) -> None:
    try:
        partial.finish(digest)
    except BadDigest as error:
        raise RequestError(f"the upload has {error.message}", param="digest") from error


NOT_REPEATED = (Export, Load, PutFile)  # whose body was read by the worker that is gone
