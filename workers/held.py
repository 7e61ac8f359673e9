"""A model of this worker as the policy and as others see it. Pure."""

from __future__ import annotations

from typing import Literal

from shared.presence import LoadedModel
from workers.placement import Held
from workers.served import Served
from workers.survey import Waiting

DEFAULT_KEEP_S = 300.0  # what a card need not say


def keep_s(served: Served) -> float:
    """How long the model may be idle: what a request last said, else what is set for it."""
    tenure = served.tenure
    return tenure.keep_s if tenure.asked_s is None else tenure.asked_s


def held(served: Served, waiting: Waiting | None, *, now_s: float) -> Held:
    """For workers/placement.py."""
    backlog = (waiting or Waiting()).backlog
    tenure = served.tenure
    return Held(
        ref=served.ref,
        bytes=served.memory_bytes,
        pinned=tenure.pinned,
        leaving=tenure.leaving,
        busy=not served.settled,
        waiting=backlog.waiting,
        waiting_since_s=now_s - backlog.oldest_s,
        used_s=tenure.used_s,
        ready_s=tenure.ready_s,
        load_s=tenure.load_s,
        keep_s=keep_s(served),
    )


def line(
    served: Served,
    *,
    tokens_per_s: float = 0.0,
    state: Literal["ready", "unloading"] = "ready",
) -> LoadedModel:
    """Its line on the worker's card."""
    stats = served.metrics.stats
    kept_s = -1.0 if served.tenure.fixed else keep_s(served)
    return LoadedModel(
        model=served.ref,
        state=state,
        context=served.context,
        slots=served.slots,
        slots_busy=stats.running,
        cells_used=stats.cells_used,
        waiting=stats.waiting,
        tokens_per_s=round(tokens_per_s, 1),
        jobs_per_s=served.metrics.jobs_per_s,
        bytes=served.memory_bytes,
        last_used_ms=served.last_used_ms,
        keep_alive_s=None if kept_s == DEFAULT_KEEP_S else kept_s,
        load_s=round(served.tenure.load_s, 3),
        pinned=served.tenure.pinned,
        adapters=served.adapters,
    )
