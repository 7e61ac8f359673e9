"""Batches many callers' texts into few decodes: a thread, a queue in, a callback a caller out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from workers.engine.plan import EngineError

log = structlog.get_logger()

# Tokens of a decode, if a single text has not more: an encoder's attention looks at every pair of
# rows of a decode, also of different texts. On a CPU 2048 took a third longer than 512.
ENOUGH_ROWS = 512

Vector = npt.NDArray[np.float32]
Answer = Callable[[list[Vector] | EngineError], None]


class Encoder(Protocol):
    """What computes: see workers/engine/vectors.py."""

    rows: int
    sequences: int

    def encode(self, sequences: Sequence[tuple[int, ...]]) -> list[Vector]:
        """A vector for each."""


class Job:
    """One caller's texts and what has come of them."""

    def __init__(self, texts: Sequence[tuple[int, ...]], answer: Answer) -> None:
        self.texts = texts
        self.answer = answer
        self.next = 0
        self.vectors: list[Vector] = []
        self.cancelled = False


class Embedder:
    """Submit from anywhere; `answer` is called on the embedder's thread, once a job."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._jobs: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[tuple[int, ...]], answer: Answer) -> Job:
        """Queue texts, none longer than the encoder's rows. `cancel` takes what is returned."""
        job = Job(texts, answer)
        with self._news:
            self._jobs.append(job)
            self._news.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Compute no more of a job; it is not answered."""
        job.cancelled = True

    def close(self) -> None:
        """Stop the thread; what waits is not answered."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._gather():
            try:
                vectors = self._encoder.encode([job.texts[at] for job, at in batch])
            except EngineError as error:
                log.error("embedding.failed", error=str(error))
                for job in {id(job): job for job, _ in batch}.values():
                    self._answer(job, error)
                continue
            for (job, _), vector in zip(batch, vectors, strict=True):
                job.vectors.append(vector)
                if len(job.vectors) == len(job.texts):
                    self._answer(job, job.vectors)

    def _gather(self) -> list[tuple[Job, int]]:
        """The next decode: texts in order of arrival while they fit; empty once closed."""
        with self._news:
            while True:
                if self._closed:
                    return []
                if batch := self._fill():
                    return batch
                self._news.wait()

    def _fill(self) -> list[tuple[Job, int]]:
        batch: list[tuple[Job, int]] = []
        room = min(self._encoder.rows, ENOUGH_ROWS)
        while self._jobs and len(batch) < self._encoder.sequences:
            job = self._jobs[0]
            if job.cancelled or job.next == len(job.texts):
                self._jobs.popleft()
                continue
            room -= len(job.texts[job.next])
            if room < 0 and batch:
                break
            batch.append((job, job.next))
            job.next += 1
        return batch

    def _answer(self, job: Job, result: list[Vector] | EngineError) -> None:
        if not job.cancelled:
            job.cancelled = True
            job.answer(result)
