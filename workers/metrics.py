"""What a worker measures, as Prometheus metrics labelled with worker and model.

They travel in the worker's presence card; the api's /metrics shows every live worker's.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shared.queue import Claim
from workers.engine.doors import End, StepReport, StepStats
from workers.runs import Run

LABELS = ("worker", "model")
RATE_WINDOW_S = 60.0
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
FINE_SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, *SECONDS[4:])


HISTOGRAMS = {
    "step_decode_rows": ("Sequences decoded together in a step", ROWS),
    "step_seconds": ("One step", SECONDS),
    "queue_wait_seconds": ("Enqueue to claim, by Redis' clock", SECONDS),
    "first_step_seconds": ("Enqueue to the start of the first step", FINE_SECONDS),
    "worker_ttft_seconds": ("Claim to first token", SECONDS),
}
COUNTERS = {
    "prefill_tokens": "Prompt tokens computed",
    "cached_tokens": "Prompt tokens taken from a cache instead",
    "decode_tokens": "Tokens generated",
    "draft_tokens": "Tokens guessed ahead and computed",
    "accepted_tokens": "Of these, those that came true",
    "preempted": "Sequences that made room",
}
GAUGES = {
    "slots_busy": "Sequences in prefill or decode",
    "engine_waiting": "Claimed and not admitted yet",
    "kv_cells_used": "KV cells in use, cache included",
    "host_cache_bytes": "Host memory in use for prefixes that left the KV cells",
}


class WorkerMetrics:
    """The registry of one worker process. Every name begins with `caravan_`."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.registry = CollectorRegistry()
        given: dict[str, Any] = {
            "labelnames": LABELS,
            "registry": self.registry,
            "namespace": "caravan",
        }
        self.histograms = {
            name: Histogram(name, text, buckets=buckets, **given)
            for name, (text, buckets) in HISTOGRAMS.items()
        }
        self.counters = {name: Counter(name, text, **given) for name, text in COUNTERS.items()}
        self.gauges = {name: Gauge(name, text, **given) for name, text in GAUGES.items()}
        ended = {**given, "labelnames": (*LABELS, "end")}
        self.jobs = Counter("jobs", "Jobs ended, by how", **ended)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def of(self, model: str) -> ModelMetrics:
        """The same for one model."""
        return ModelMetrics(self, model)


class ModelMetrics:
    """The worker's metrics with one model's labels bound."""

    def __init__(self, metrics: WorkerMetrics, model: str) -> None:
        labels = (metrics.worker, model)
        self._observe = {
            name: histogram.labels(*labels).observe
            for name, histogram in metrics.histograms.items()
        }
        self._add = {name: count.labels(*labels).inc for name, count in metrics.counters.items()}
        self._set = {name: gauge.labels(*labels).set for name, gauge in metrics.gauges.items()}
        self._jobs = metrics.jobs
        self._labels = labels
        self.worker = metrics.worker
        self.stats = StepStats()
        self.tokens = 0
        self._ends_s: deque[float] = deque(maxlen=64)

    @property
    def jobs_per_s(self) -> float:
        """Measured drain rate over the last jobs (at most 64, at most a minute); 0 if unknown."""
        now_s = time.monotonic()
        recent = [at_s for at_s in self._ends_s if now_s - at_s < RATE_WINDOW_S]
        return len(recent) / (now_s - recent[0]) if len(recent) > 1 else 0.0

    def stepped(self, report: StepReport) -> None:
        """One step of the engine."""
        stats = self.stats = report.stats
        if stats.decode_rows:
            self._observe["step_decode_rows"](stats.decode_rows)
        if stats.decode_rows or stats.prefill_rows:
            self._observe["step_seconds"](stats.step_ms / 1000)
        self._add["prefill_tokens"](stats.prefill_rows)
        self._add["cached_tokens"](stats.cached_tokens)
        self._add["draft_tokens"](stats.draft_tokens)
        self._add["accepted_tokens"](stats.accepted_tokens)
        self._add["preempted"](stats.preempted)
        made = sum(len(ids) for output in report.outputs for _, ids in output.tokens)
        self._add["decode_tokens"](made)
        self.tokens += made
        self._set["slots_busy"](stats.running)
        self._set["engine_waiting"](stats.waiting)
        self._set["kv_cells_used"](stats.cells_used)
        self._set["host_cache_bytes"](stats.saved_bytes)

    def claimed(self, claim: Claim) -> None:
        """A job came from the queue, for the first time or again."""
        if claim.epoch == 1:
            self._observe["queue_wait_seconds"](claim.wait_ms / 1000)

    def admitted(self, run: Run, stats: StepStats) -> None:
        """The step that began a run's prefill is over."""
        since_claim_s = time.monotonic() - run.claimed_s - stats.step_ms / 1000
        self._observe["first_step_seconds"](run.claim.wait_ms / 1000 + max(0.0, since_claim_s))

    def finished(self, run: Run, end: End) -> None:
        """A run ended by itself."""
        self._jobs.labels(*self._labels, end.kind).inc()
        self._ends_s.append(time.monotonic())
        if run.first_text_s is not None:
            self._observe["worker_ttft_seconds"](run.first_text_s - run.claimed_s)
