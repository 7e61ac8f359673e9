"""What a worker measures, as Prometheus metrics labelled with worker and model.

They travel in the worker's presence card; the api's /metrics shows every live worker's.
"""

from __future__ import annotations

import time
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from shared.queue import Claim
from workers.engine.doors import End, StepReport, StepStats
from workers.runs import Run

LABELS = ("worker", "model")
RATE_WINDOW_S = 60.0
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class WorkerMetrics:
    """The registry of one worker process."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.registry = CollectorRegistry()
        registry = self.registry
        self.decode_rows = Histogram(
            "caravan_step_decode_rows",
            "Sequences decoded together in a step",
            LABELS,
            buckets=ROWS,
            registry=registry,
        )
        self.step_seconds = Histogram(
            "caravan_step_seconds", "One step", LABELS, buckets=SECONDS, registry=registry
        )
        self.queue_seconds = Histogram(
            "caravan_queue_wait_seconds",
            "Enqueue to claim, by Redis' clock",
            LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self.first_step_seconds = Histogram(
            "caravan_first_step_seconds",
            "Enqueue to the start of the first step",
            LABELS,
            buckets=(0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, *SECONDS[4:]),
            registry=registry,
        )
        self.ttft_seconds = Histogram(
            "caravan_worker_ttft_seconds",
            "Claim to first token",
            LABELS,
            buckets=SECONDS,
            registry=registry,
        )
        self.prefill_tokens = Counter(
            "caravan_prefill_tokens", "Prompt tokens computed", LABELS, registry=registry
        )
        self.cached_tokens = Counter(
            "caravan_cached_tokens",
            "Prompt tokens taken from the KV cache instead",
            LABELS,
            registry=registry,
        )
        self.decode_tokens = Counter(
            "caravan_decode_tokens", "Tokens generated", LABELS, registry=registry
        )
        self.preempted = Counter(
            "caravan_preempted", "Sequences that made room", LABELS, registry=registry
        )
        self.jobs = Counter(
            "caravan_jobs", "Jobs ended, by how", (*LABELS, "end"), registry=registry
        )
        self.slots_busy = Gauge(
            "caravan_slots_busy", "Sequences in prefill or decode", LABELS, registry=registry
        )
        self.waiting = Gauge(
            "caravan_engine_waiting", "Claimed and not admitted yet", LABELS, registry=registry
        )
        self.cells_used = Gauge(
            "caravan_kv_cells_used", "KV cells in use, cache included", LABELS, registry=registry
        )

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
        self._decode_rows = metrics.decode_rows.labels(*labels)
        self._step_seconds = metrics.step_seconds.labels(*labels)
        self._queue_seconds = metrics.queue_seconds.labels(*labels)
        self._first_step_seconds = metrics.first_step_seconds.labels(*labels)
        self._ttft_seconds = metrics.ttft_seconds.labels(*labels)
        self._prefill_tokens = metrics.prefill_tokens.labels(*labels)
        self._cached_tokens = metrics.cached_tokens.labels(*labels)
        self._decode_tokens = metrics.decode_tokens.labels(*labels)
        self._preempted = metrics.preempted.labels(*labels)
        self._slots_busy = metrics.slots_busy.labels(*labels)
        self._waiting = metrics.waiting.labels(*labels)
        self._cells_used = metrics.cells_used.labels(*labels)
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
            self._decode_rows.observe(stats.decode_rows)
        if stats.decode_rows or stats.prefill_rows:
            self._step_seconds.observe(stats.step_ms / 1000)
        self._prefill_tokens.inc(stats.prefill_rows)
        self._cached_tokens.inc(stats.cached_tokens)
        self._preempted.inc(stats.preempted)
        made = sum(len(ids) for output in report.outputs for _, ids in output.tokens)
        self._decode_tokens.inc(made)
        self.tokens += made
        self._slots_busy.set(stats.running)
        self._waiting.set(stats.waiting)
        self._cells_used.set(stats.cells_used)

    def claimed(self, claim: Claim) -> None:
        """A job came from the queue, for the first time or again."""
        if claim.epoch == 1:
            self._queue_seconds.observe(claim.wait_ms / 1000)

    def admitted(self, run: Run, stats: StepStats) -> None:
        """The step that began a run's prefill is over."""
        since_claim_s = time.monotonic() - run.claimed_s - stats.step_ms / 1000
        self._first_step_seconds.observe(run.claim.wait_ms / 1000 + max(0.0, since_claim_s))

    def finished(self, run: Run, end: End) -> None:
        """A run ended by itself."""
        self._jobs.labels(*self._labels, end.kind).inc()
        self._ends_s.append(time.monotonic())
        if run.first_text_s is not None:
            self._ttft_seconds.observe(run.first_text_s - run.claimed_s)
