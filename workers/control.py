"""What a worker hears and obeys: wake-ups, cancels, the order to drain."""

from __future__ import annotations

import asyncio
import os
import signal

import structlog

from shared import codec, keys, storing
from shared.control import Cancel, Configured, Delete, Drain, Unload
from workers.claim import LeasedWorker
from workers.placing import Placer

log = structlog.get_logger()

HAND_BACK_S = 5.0


async def drain(worker: LeasedWorker, *, timeout_s: float) -> None:
    """Stop claiming; what does not end in time goes back to the queue with its journal."""
    worker.claiming = False
    runs = [run.over for run in worker.runs.values()]
    log.info("worker.draining", running=len(runs))
    if runs:
        await asyncio.wait(runs, timeout=timeout_s)
    for served in worker.served.values():
        served.hand_back()
    left = [run.over for run in worker.runs.values() if not run.over.done()]
    if left:
        log.info("worker.handing_back", jobs=len(left))
        await asyncio.wait(left, timeout=HAND_BACK_S)


def hear(
    worker: LeasedWorker, channel: bytes, message: bytes, *, placer: Placer | None = None
) -> None:
    """A wake-up, or an order."""
    if channel != keys.CONTROL.encode():
        _wake(worker, keys.woken(channel), placer)
        return
    match codec.decode_control(message):
        case Cancel(job=job):
            for served in worker.served.values():
                if run := served.run_of(job):
                    served.stop(run.key)
        case Drain(worker=name):
            if name == worker.worker:
                os.kill(os.getpid(), signal.SIGTERM)
        case Unload() | Delete() | Configured() as order:
            if placer is not None:
                placer.obey(order)


def _wake(worker: LeasedWorker, model: str, placer: Placer | None) -> None:
    if model in worker.served:
        worker.wake(model)
    elif placer is not None and not storing.is_queue(model):  # those are the keeper's
        placer.woken(model)
