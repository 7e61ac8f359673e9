"""What arq runs: one claimed job from payload to its end. Never raises: ends are events."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from shared import bus, codec
from shared.errors import (
    CaravanError,
    ContextTooLong,
    DeadlineExceeded,
    Internal,
    RequestError,
    WorkerCrashed,
)
from shared.events import Finished, Frame, Scores, Started, Tokens, Usage, Vectors
from shared.queue import Verdict
from shared.requests import Detokenize, Embed, Generate, Request, Rerank, Tokenize
from workers.engine.adapters import chosen
from workers.engine.doors import SequenceRequest
from workers.runs import Run, journaled_tokens
from workers.served import Served

if TYPE_CHECKING:
    from workers.claim import LeasedWorker
    from workers.embedding import Embeddings
    from workers.prompt.plan import Prepared

log = structlog.get_logger()


Dispatch = Callable[[Served, Run, Request, list[Frame]], Awaitable[None]]


async def run(ctx: dict[str, Any], payload: bytes) -> None:
    """A model's job, from its payload to its end."""
    await bounded(ctx, payload, _dispatch)


async def bounded(ctx: dict[str, Any], payload: bytes, dispatch: Dispatch) -> None:
    """The job boundary: one of the two places where everything is caught."""
    worker: LeasedWorker = ctx["worker"]
    run = worker.runs[ctx["job_id"]]
    try:
        enqueued_s = ctx["enqueue_time"].timestamp()
        await _serve(worker, run, payload, dispatch, enqueued_s=enqueued_s)
    except CaravanError as error:
        run.fail(error)
    except codec.BadPayload as error:
        run.fail(RequestError(f"this job cannot be read: {error}"))
    except Exception:
        log.exception("job.crashed", job=run.job)
        run.fail(Internal())
    await settle(worker, run)


async def settle(worker: LeasedWorker, run: Run) -> None:
    """Return once the run is out of our hands."""
    for served in worker.served.values():
        served.publisher.kick()
    await run.over


async def abandon(worker: LeasedWorker, run: Run) -> None:
    """End a job whose payload arq could not read."""
    run.number = await bus.last_number(worker.queue.redis, run.job)
    run.fail(RequestError("this job's payload is gone or is not ours"))
    await settle(worker, run)


async def _serve(
    worker: LeasedWorker, run: Run, payload: bytes, dispatch: Dispatch, *, enqueued_s: float
) -> None:
    frames = await _journal(worker, run)
    request = codec.decode_request(payload)
    run.tenant, run.enqueued_s = request.tenant, enqueued_s
    match run.claim.verdict:
        case Verdict.CRASHED:
            raise WorkerCrashed("this request took its worker down more than once; it is given up")
        case Verdict.LATE:
            raise DeadlineExceeded("the request waited in the queue longer than it may")
        case Verdict.RUN:
            await dispatch(worker.served[request.model], run, request, frames)


async def _journal(worker: LeasedWorker, run: Run) -> list[Frame]:
    """What earlier runs said; a first claim has no journal."""
    if run.claim.epoch == 1:
        return []
    frames = await bus.read_journal(worker.queue.redis, run.job)
    if frames:
        run.number = frames[-1].next_number
    return frames


async def _dispatch(served: Served, run: Run, request: Request, frames: list[Frame]) -> None:
    if served.refusal is not None:
        run.fail(served.refusal)
        return
    served.used(request)
    match request:
        case Generate():
            if not served.generates:
                why = f"{served.ref} gives embeddings and generates no text"
                raise RequestError(why, param="model")
            await _generate(served, run, request, frames)
        case Tokenize():
            await _tokenize(served, run, request)
        case Detokenize():
            text = served.text.detokenize(request.tokens)
            run.say(Tokens(ids=request.tokens, text=text))
            run.end(_counted(served, run, len(request.tokens)))
        case Embed():
            vectors = _embeddings(served).vectors(request, on_stop=run.on_stop)
            _embedded(served, run, await vectors)
        case Rerank():
            _embedded(served, run, await _embeddings(served).scores(request, on_stop=run.on_stop))


def _embeddings(served: Served) -> Embeddings:
    if served.embeddings is None:
        raise RequestError(f"{served.ref} gives no embeddings", param="model")
    return served.embeddings


def _embedded(served: Served, run: Run, answer: tuple[Vectors | Scores, int] | None) -> None:
    if answer is None:  # its client left
        run.end(Finished())
        return
    run.say(answer[0])
    run.end(_counted(served, run, answer[1]))


def _counted(served: Served, run: Run, prompt_tokens: int) -> Finished:
    """The end of a job that generates nothing."""
    return Finished(usage=Usage(prompt_tokens=prompt_tokens), timings=served.timings(run))


async def _tokenize(served: Served, run: Run, request: Tokenize) -> None:
    ids = await asyncio.to_thread(served.text.tokenize, request, enqueued_s=run.enqueued_s)
    run.say(Tokens(ids=ids, pieces=tuple(served.text.piece(token) for token in ids)))
    run.end(_counted(served, run, len(ids)))


async def _generate(served: Served, run: Run, request: Generate, frames: list[Frame]) -> None:
    adapters = chosen(request.adapters, served.adapters)
    prepared = await asyncio.to_thread(served.text.prepare, request, enqueued_s=run.enqueued_s)
    wanted = sequence_request(run, request, prepared, frames, context=served.context)
    wanted = replace(wanted, adapters=adapters)
    if prepared.parts:
        media = await served.text.media(prepared, stopped=lambda: run.stopped)
        wanted = replace(wanted, media=media)
    if not frames:
        run.say(
            Started(
                prompt_tokens=len(prepared.prompt),
                worker=served.metrics.worker,
                fingerprint=served.fingerprint,
            )
        )
    if run.stopped:  # its client left, or the worker does, while the prompt was prepared
        if not run.hand_back:
            run.end(Finished())
        return
    served.engine.submit(wanted)
    await run.over


def sequence_request(
    run: Run, request: Generate, prepared: Prepared, frames: list[Frame], *, context: int
) -> SequenceRequest:
    """What the engine is asked. Raises ContextTooLong when not even one token fits."""
    room = context - len(prepared.prompt)
    if room < 1:
        raise ContextTooLong.of(prompt_tokens=len(prepared.prompt), context=context)
    resumed = journaled_tokens(frames, choices=request.choices) if frames else ()
    return SequenceRequest(
        key=run.key,
        prompt=prepared.prompt,
        resumed=resumed,
        max_tokens=min(room, request.max_tokens or room),
        pipeline=prepared.pipeline,
        choices=request.choices,
        sampling=request.sampling,
        seed=seed_of(request),
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        logprobs=request.logprobs,
        mask=prepared.mask,
        lane=request.lane,
    )


def seed_of(request: Generate) -> int:
    """The caller's seed, else one that every worker derives alike from the job's id."""
    if request.sampling.seed is not None:
        return request.sampling.seed & 0xFFFFFFFF
    return zlib.crc32(request.id.encode())
