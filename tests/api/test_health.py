"""/health, /ready and /metrics tell the truth, for this process and for the workers."""

from __future__ import annotations

import httpx
from arq.connections import ArqRedis
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics, page
from shared import presence
from shared.presence import WorkerCard
from tests.api.caller import chat
from tests.api.fleet import MODEL, FakeWorker, said

WORKER_TEXT = b"""# HELP caravan_step_rows Rows decoded in a step
# TYPE caravan_step_rows histogram
caravan_step_rows_bucket{le="1.0",worker="w1"} 2.0
caravan_step_rows_bucket{le="+Inf",worker="w1"} 3.0
caravan_step_rows_count{worker="w1"} 3.0
caravan_step_rows_sum{worker="w1"} 9.0
"""


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_root_and_version_say_who_answers(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).text == "Docker Model Runner is running"
    theirs = await client.get("/", headers={"user-agent": "ollama-python/0.6"})
    assert theirs.text == "Ollama is running"
    assert set((await client.get("/version")).json()) == {"version"}


async def test_ready_needs_a_worker_that_takes_work(
    client: httpx.AsyncClient, worker: FakeWorker, fake_redis: ArqRedis
) -> None:
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["models"]) == (200, [MODEL])
    leaving = WorkerCard(id="w1", host="h", pid=1, device="cpu", started_ms=0, draining=True)
    await presence.show(fake_redis, leaving)
    answer = await client.get("/ready")
    assert (answer.status_code, answer.json()["workers"]) == (503, 0)


async def test_metrics_count_what_was_served(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(lambda _: said("a b c")):
        await client.post("/v1/chat/completions", json=chat())
    found = samples((await client.get("/metrics")).text)
    model = ("model", MODEL)
    done = {model, ("kind", "generate"), ("outcome", "ok")}
    assert found["caravan_requests_total", frozenset(done)] == 1
    assert found["caravan_ttft_seconds_count", frozenset({model})] == 1
    assert found["caravan_inter_token_seconds_count", frozenset({model})] >= 1
    assert found["caravan_api_queue_wait_seconds_sum", frozenset({model})] == 0.0015
    assert found["caravan_tokens_total", frozenset({model, ("kind", "cached")})] == 2
    assert found["caravan_queue_depth", frozenset({model, ("lane", "interactive")})] == 0
    assert found["caravan_api_open_jobs", frozenset()] == 0
    assert not [name for name, _ in found if name.endswith("_created")]


async def test_metrics_hold_the_workers_own(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    await worker.announce(metrics=WORKER_TEXT)
    found = samples((await client.get("/metrics")).text)
    assert found["caravan_step_rows_count", frozenset({("worker", "w1")})] == 3


def test_two_workers_share_a_family_and_nonsense_hides_nobody() -> None:
    texts = [WORKER_TEXT, WORKER_TEXT.replace(b"w1", b"w2"), b"\xff{{{", b'x{y="']
    text = page(Metrics(), texts, {}).decode()
    assert text.count("# TYPE caravan_step_rows histogram") == 1
    found = samples(text)
    for worker in ("w1", "w2"):
        assert found["caravan_step_rows_sum", frozenset({("worker", worker)})] == 9
