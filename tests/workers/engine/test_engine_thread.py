"""The engine's thread: its doors, its close, its death."""

from __future__ import annotations

import queue
import threading

import pytest

from shared.requests import Sampling
from tests.fakes import PlainText, ScriptedRunner
from workers.engine.doors import End, SequenceRequest, StepReport
from workers.engine.engine import Engine


class Ends:
    """Waits for jobs to end."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, End]] = queue.Queue()

    def take(self, report: StepReport) -> None:
        """deliver."""
        for output in report.outputs:
            if output.end is not None:
                self._queue.put((output.key, output.end))

    def next(self) -> tuple[str, End]:
        """The next end; fails after the test's patience, never hangs."""
        return self._queue.get(timeout=20)


def request(key: str, max_tokens: int = 5) -> SequenceRequest:
    return SequenceRequest(
        key=key,
        prompt=tuple(key.encode()),
        max_tokens=max_tokens,
        pipeline=lambda _: PlainText(),
        sampling=Sampling(temperature=0),
    )


def test_jobs_from_many_threads_all_end() -> None:
    ends = Ends()
    engine = Engine(ScriptedRunner(), deliver=ends.take)
    engine.start()
    threads = [
        threading.Thread(target=engine.submit, args=(request(f"job {n}"),)) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    assert {ends.next()[0] for _ in range(20)} == {f"job {n}" for n in range(20)}
    engine.close()
    assert engine.stalled_s == 0


def test_close_hands_live_jobs_back_and_refuses_later_ones() -> None:
    ends = Ends()
    runner = ScriptedRunner(context_length=10**6, cells=10**5)
    decoding = threading.Event()
    runner.before_decode = decoding.set
    engine = Engine(runner, deliver=ends.take)
    engine.start()
    engine.submit(request("endless", 10**6))
    decoding.wait(20)
    engine.close()
    assert ends.next()[1].kind == "preempted"
    engine.submit(request("late"))
    key, end = ends.next()
    assert (key, end.kind) == ("late", "preempted")


def test_a_broken_device_ends_no_job_and_the_engine_is_dead() -> None:
    """Their leases will expire, and others take them up where their journals end."""
    said: list[StepReport] = []
    runner = ScriptedRunner(slots=1)
    engine = Engine(runner, deliver=said.append)
    engine.submit(request("one"))
    engine.submit(request("two"))
    runner.breaks = True
    engine.start()
    engine.close()
    assert engine.dead
    engine.submit(request("three"))
    assert [one for report in said for one in report.outputs] == []
    assert runner.open_samplers == 0


def test_a_step_that_hangs_shows_as_stalled() -> None:
    runner = ScriptedRunner()
    decoding, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        decoding.set()
        go_on.wait(20)

    runner.before_decode = hang
    ends = Ends()
    engine = Engine(runner, deliver=ends.take)
    engine.start()
    assert engine.stalled_s == 0
    engine.submit(request("one"))
    assert decoding.wait(20)
    first = engine.stalled_s
    assert 0 < first < engine.stalled_s
    go_on.set()
    assert ends.next()[1].kind == "finished"
    engine.close()


@pytest.mark.parametrize("times", [1, 2])
def test_close_is_harmless_before_the_start_and_again(times: int) -> None:
    engine = Engine(ScriptedRunner(), deliver=lambda _: None)
    if times == 2:
        engine.start()
        engine.close()
    engine.close()
