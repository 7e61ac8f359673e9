"""What a client sees of a stream, and what leaving it does, in every phase."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from api import streaming
from api.app import Application
from api.faults import ClientGone
from shared.errors import ContextTooLong, DeadlineExceeded
from shared.events import ChoiceEnd, Finished, Started, TextDelta
from shared.presence import LoadedModel
from tests.api.caller import Call, calling, chat
from tests.api.fleet import MODEL, FakeWorker, Held, said

IDLE = {"interactive": 0, "batch": 0, "running": 0}


async def next_content(call: Call) -> str:
    """The next write that is no comment."""
    while True:
        data = await call.writes.get()
        if not data.startswith(b":"):
            return data.decode()


async def queued(worker: FakeWorker) -> None:
    """Until a job waits."""
    while not (await worker.queue.depths(MODEL))["interactive"]:
        await asyncio.sleep(0.001)


async def released(worker: FakeWorker, held: Held) -> None:
    """Write until the queue says that nobody wants it; then the slot is free."""
    while (await held.say(TextDelta(text="x"))).name != "CANCELLED":
        await asyncio.sleep(0)
    await held.say(Finished(choices=(ChoiceEnd(reason="cancelled"),)))
    assert await worker.queue.depths(MODEL) == IDLE


async def test_several_events_of_a_frame_are_one_write_and_stay_apart(
    app: Application, worker: FakeWorker
) -> None:
    async with calling(app, body=chat(stream=True)) as call:
        held = await worker.next()
        await held.say(Started(prompt_tokens=1))
        await held.say(TextDelta(text="a"), TextDelta(text="b"), TextDelta(text="c"))
        write = await next_content(call)
        assert write.count("data: ") == 4  # the role and three tokens
        await held.say(Finished(choices=(ChoiceEnd(),)))
        assert (await call.text()).endswith("data: [DONE]\n\n")
    assert call.headers["content-type"].startswith("text/event-stream")
    assert call.headers["x-caravan-job"].startswith("chatcmpl-")
    assert call.headers["x-queue-position"] == "1"


async def test_a_job_that_fails_at_once_is_a_real_status(
    app: Application, worker: FakeWorker
) -> None:
    error = ContextTooLong.of(prompt_tokens=9000, context=8192)
    answering = worker.serving(lambda _: (error.event(),))
    async with answering, calling(app, body=chat(stream=True)) as call:
        text = await call.text()
    assert call.status == 400
    assert "9000" in text
    assert "context_length_exceeded" in text


async def test_a_failure_among_the_first_events_is_a_real_status(
    app: Application, worker: FakeWorker
) -> None:
    async with calling(app, body=chat(stream=True)) as call:
        held = await worker.next()
        error = ContextTooLong.of(prompt_tokens=9000, context=8192)
        await held.say(Started(prompt_tokens=9000), error.event())
        await call.done.wait()
    assert call.status == 400


async def test_a_job_that_fails_later_says_so_in_the_stream(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "FIRST_EVENT_WAIT_S", 0.001)
    async with calling(app, body=chat(stream=True)) as call:
        held = await worker.next()
        while not call.status:
            await asyncio.sleep(0.001)
        await held.say(DeadlineExceeded("waited too long").event())
        text = await call.text()
    assert call.status == 200
    assert '"code":"deadline_exceeded"' in text
    assert text.endswith("data: [DONE]\n\n")


async def test_a_queued_stream_hears_its_place(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "FIRST_EVENT_WAIT_S", 0.001)
    async with calling(app, body=chat("first")):
        await queued(worker)
        async with calling(app, body=chat(stream=True)) as call:
            comment = (await call.writes.get()).decode()
            assert re.fullmatch(r": queued position=2 eta_s=1\.0\n\n", comment)
            async with worker.serving(lambda _: said("done")):
                assert "done " in await call.text()


async def test_a_stream_without_a_known_rate_gives_no_eta(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "FIRST_EVENT_WAIT_S", 0.001)
    await worker.announce(jobs_per_s=0)
    async with calling(app, body=chat(stream=True)) as call:
        assert await call.writes.get() == b": queued position=1\n\n"


async def test_a_stream_hears_how_far_its_model_is_loaded(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "FIRST_EVENT_WAIT_S", 0.001)
    lines = [LoadedModel(model=MODEL, state="loading", percent=percent) for percent in (7, 42)]
    await worker.show(*lines, LoadedModel(model="ai/other:latest", jobs_per_s=1.0))
    async with calling(app, body=chat(stream=True)) as call:
        assert await call.writes.get() == b": loading 42 %\n\n"
    await worker.show(LoadedModel(model=MODEL), *lines)
    app.service.fleet.outdated()
    async with calling(app, body=chat(stream=True)) as call:
        assert await call.writes.get() == b": queued position=1\n\n"


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_while_queued_removes_the_job(
    app: Application, worker: FakeWorker, stream: bool
) -> None:
    async with calling(app, body=chat(stream=stream)):
        await queued(worker)
    assert await worker.queue.depths(MODEL) == IDLE


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_in_prefill_frees_the_slot(
    app: Application, worker: FakeWorker, stream: bool
) -> None:
    async with calling(app, body=chat(stream=stream)):
        held = await worker.next()
    await released(worker, held)


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_in_the_middle_frees_the_slot(
    app: Application, worker: FakeWorker, stream: bool
) -> None:
    async with calling(app, body=chat(stream=stream)) as call:
        held = await worker.next()
        await held.say(Started(prompt_tokens=1), TextDelta(text="a"))
        if stream:
            await next_content(call)
    await released(worker, held)
    assert len(app.service.inbox) == 0


async def test_many_that_leave_at_once_leave_nothing(app: Application, worker: FakeWorker) -> None:
    async with contextlib.AsyncExitStack() as visits:
        for n in range(40):
            await visits.enter_async_context(calling(app, body=chat(stream=bool(n % 2))))
        running = [await worker.next() for _ in range(40)]
    for held in running:
        assert (await held.say(TextDelta(text="x"))).name == "CANCELLED"
        await held.say(Finished(choices=(ChoiceEnd(reason="cancelled"),)))
    assert await worker.queue.depths(MODEL) == IDLE
    assert len(app.service.inbox) == 0


async def test_a_client_that_takes_nothing_is_cut_off(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 0.01)
    async with calling(app, body=chat(stream=True)) as call:
        call.reads.clear()
        held = await worker.next()
        await held.say(Started(prompt_tokens=1), TextDelta(text="a"))
        while len(app.service.inbox):
            await asyncio.sleep(0.001)
        await released(worker, held)


async def test_ndjson_has_lines_and_no_comments(
    app: Application, worker: FakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "sse", _as_ndjson)
    monkeypatch.setattr(streaming, "FIRST_EVENT_WAIT_S", 0.001)
    async with calling(app, body=chat("first")), calling(app, body=chat(stream=True)) as call:
        while not call.status:
            await asyncio.sleep(0.001)
        async with worker.serving(lambda _: said("done")):
            text = await call.text()
    assert call.headers["content-type"] == "application/x-ndjson"
    assert "queued" not in text


async def _as_ndjson(http, service, asked, renderer):  # type: ignore[no-untyped-def]
    return await streaming.ndjson(http, service, asked, renderer)


class Visitor:
    """Stands for a request whose client leaves when told."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_until_disconnect_answers_what_the_work_answers() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert await streaming.until_disconnect(Visitor(), work()) == 7  # type: ignore[arg-type]


async def test_until_disconnect_raises_what_the_work_raises() -> None:
    async def work() -> int:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await streaming.until_disconnect(Visitor(), work())  # type: ignore[arg-type]


async def test_until_disconnect_cancels_and_waits_for_the_cleaning_up() -> None:
    visitor, steps = Visitor(), []

    async def work() -> None:
        try:
            visitor.gone.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned")

    with pytest.raises(ClientGone):
        await streaming.until_disconnect(visitor, work())  # type: ignore[arg-type]
    assert steps == ["cleaned"]


async def test_until_disconnect_passes_a_cancel_on() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(streaming.until_disconnect(Visitor(), work()))  # type: ignore[arg-type]
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


def test_streams_are_not_cut_when_the_server_is_told_to_stop() -> None:
    assert streaming.AppStatus.enable_automatic_graceful_drain is False
