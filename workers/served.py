"""One model this worker serves: its engine, its text side, its runs and their publisher."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from shared.errors import CaravanError
from shared.events import Failed, Finished, Timings, Usage
from shared.queue import Claim, Queue
from shared.requests import Generate, Request, Tokenize
from shared.settings import Settings
from workers.engine.doors import End, EngineDoor, Output, StepReport
from workers.engine.media import Media
from workers.metrics import ModelMetrics
from workers.publisher import Publisher
from workers.runs import Run

if TYPE_CHECKING:
    from workers.embedding import Embeddings
    from workers.prompt.plan import Prepared

log = structlog.get_logger()


class TextSide(Protocol):
    """What a model knows of text: see workers/load.py."""

    def prepare(self, request: Generate, *, enqueued_s: float) -> Prepared:
        """Prompt tokens and pipelines; `enqueued_s` is the date templates may show. Raises
        shared.errors for bad input."""

    async def media(self, prepared: Prepared, *, stopped: Callable[[], bool]) -> tuple[Media, ...]:
        """The embeddings of its images and sounds; none once it is `stopped`."""

    def tokenize(self, request: Tokenize, *, enqueued_s: float) -> tuple[int, ...]:
        """Token ids of a text or a rendered conversation."""

    def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids."""

    def piece(self, token: int) -> bytes:
        """One token's bytes."""


class Tenure:
    """How a model came to this worker, and what keeps it. Times are time.monotonic's.

    `fixed`: the worker was given it for good. `keep_s`: how long it stays idle, negative for ever;
    `asked_s` is what a request last said of that. `extra`: another worker had it before, and comes
    first. `leaving`: it claims no more. Its loading took from `began_s` to `ready_s`.
    """

    def __init__(
        self,
        *,
        fixed: bool = True,
        pinned: bool = True,
        extra: bool = False,
        keep_s: float = -1.0,
        began_s: float = 0.0,
    ) -> None:
        self.fixed = fixed
        self.pinned = pinned
        self.extra = extra
        self.keep_s = keep_s
        self.asked_s: float | None = None
        self.began_s = began_s
        self.ready_s = self.used_s = time.monotonic()
        self.leaving = False

    @property
    def load_s(self) -> float:
        """How long its loading took; 0 where that is not known."""
        return self.ready_s - self.began_s if self.began_s else 0.0

    def overlap_ms(self, *, queued_s: float, claimed_s: float) -> float:
        """How much of a job's wait was the loading."""
        if not self.began_s:
            return 0.0
        return 1000 * max(0.0, min(claimed_s, self.ready_s) - max(queued_s, self.began_s))


class Served:
    """Wires engine, runs and Redis of one model. Lives on the event loop's thread."""

    def __init__(
        self,
        ref: str,
        text: TextSide,
        *,
        queue: Queue,
        settings: Settings,
        context: int,
        slots: int,
        bytes: int,
        vector_bytes: int = 0,
        metrics: ModelMetrics,
        embeddings: Embeddings | None = None,
        generates: bool = True,
        adapters: tuple[str, ...] = (),
        tenure: Tenure | None = None,
        refusal: CaravanError | None = None,
        open_engine: Callable[[Callable[[StepReport], None]], EngineDoor],
    ) -> None:
        """`adapters`: those that requests may name. `refusal`: there is no model; every job of its
        queue ends with this error."""
        self.ref = ref
        self.text = text
        self.context = context
        self.slots = slots
        self.bytes = bytes
        self.vector_bytes = vector_bytes
        self.metrics = metrics
        self.embeddings = embeddings
        self.generates = generates
        self.adapters = adapters
        self.tenure = tenure or Tenure()
        self.refusal = refusal
        self.claims = 0  # under way: what they bring has to be run
        self.last_used_ms = 0
        self.fingerprint = ""  # of what computes the answers
        self.publisher = Publisher(
            queue,
            ref,
            interval_s=settings.emit_interval_ms / 1000,
            lease_s=settings.lease_ms / 1000,
            stop=self.stop,
            on_end=self._on_end,
        )
        self.engine = open_engine(self._stepped)

    @property
    def free(self) -> int:
        """How many more jobs may be claimed."""
        if self.tenure.leaving or self.engine.dead:
            return 0
        return max(0, self.slots - len(self.publisher.runs))

    @property
    def settled(self) -> bool:
        """Whether nothing runs, and nothing is about to."""
        return not self.publisher.runs and not self.claims

    @property
    def memory_bytes(self) -> int:
        """What it takes now: embeddings of a model that generates have a context of their own."""
        opened = self.embeddings is not None and self.embeddings.is_open
        return self.bytes + (self.vector_bytes if opened else 0)

    def used(self, request: Request) -> None:
        """A job of this model is about to run; it may say how long the model is to stay."""
        asked_s = getattr(request, "keep_alive_s", None)
        if asked_s is not None:
            self.tenure.asked_s = asked_s

    def ended(self) -> None:
        """A run is over."""
        self.tenure.used_s = time.monotonic()
        self.last_used_ms = time.time_ns() // 1_000_000

    def begin(self, claim: Claim) -> Run:
        """A claimed job starts here; its lease is kept from now on."""
        run = Run(claim)
        self.publisher.add(run)
        self.last_used_ms = time.time_ns() // 1_000_000
        return run

    def run_of(self, job: str) -> Run | None:
        """The run of a job, if this worker has it."""
        return next((run for run in self.publisher.runs.values() if run.job == job), None)

    def stop(self, key: str) -> None:
        """Nobody wants this run's tokens any more."""
        self.engine.cancel(key)
        if run := self.publisher.runs.get(key):
            run.stop()

    def hand_back(self) -> None:
        """Give every live run back to the queue."""
        for run in self.publisher.runs.values():
            run.hand_back = run.terminal is None
            self.engine.cancel(run.key)
            run.stop()
        self.publisher.kick()

    def timings(self, run: Run, end: End | None = None) -> Timings:
        """Where a run's time went; what it waited for the loading is not in `queue_ms`."""
        wait_ms = run.claim.wait_ms
        queued_s = run.claimed_s - wait_ms / 1000
        load_ms = self.tenure.overlap_ms(queued_s=queued_s, claimed_s=run.claimed_s)
        return Timings(
            queue_ms=max(0.0, wait_ms - load_ms),
            load_ms=load_ms,
            prefill_ms=end.prefill_ms if end else 0.0,
            decode_ms=end.decode_ms if end else 0.0,
        )

    def _stepped(self, report: StepReport) -> None:
        self.metrics.stepped(report)
        for output in report.outputs:
            run = self.publisher.runs.get(output.key)
            if run is not None and output.admitted:
                self.metrics.admitted(run, report.stats)
        self.publisher.put(report)

    def _on_end(self, run: Run, output: Output) -> None:
        end = output.end
        if end is None or run.hand_back:
            return
        match end.kind:
            case "preempted":
                run.hand_back = True
            case "failed":
                log.error("sequence.failed", job=run.job, error=end.error)
                run.end(Failed(code="internal_error", message=end.error))
            case _:
                run.end(finished_of(end, self.timings(run, end)))
                self.metrics.finished(run, end)


def finished_of(end: End, timings: Timings) -> Finished:
    """The stream's last event from the engine's last word."""
    return Finished(
        choices=end.choices,
        usage=Usage(
            prompt_tokens=end.prompt_tokens,
            completion_tokens=end.completion_tokens,
            cached_tokens=end.cached_tokens,
            reasoning_tokens=end.reasoning_tokens,
            draft_tokens=end.draft_tokens,
            accepted_tokens=end.accepted_tokens,
        ),
        timings=timings,
    )
