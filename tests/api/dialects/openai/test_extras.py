"""Rerank, score, tokenize and the rest, in the shapes of those who have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from shared.events import Event, Finished, Scores, Tokens, Usage
from shared.presence import LoadedModel
from shared.requests import Detokenize, Prompt, Request, Rerank, Tokenize
from tests.api.fleet import MODEL, FakeWorker

PIECES = Tokens(ids=(1, 2, 3), pieces=(b"<s>", b"caf", b"\xc3"))


def answers(request: Request) -> Sequence[Event]:
    """Longer documents are better; texts have three tokens."""
    done = Finished(usage=Usage(prompt_tokens=7))
    match request:
        case Rerank(documents=documents):
            return (Scores(scores=tuple(float(len(one)) for one in documents)), done)
        case Detokenize():
            return (Tokens(text="café"), done)
        case _:
            return (PIECES, done)


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


RERANK_PATHS = ["/rerank", "/v1/rerank", "/engines/rerank", "/engines/llama.cpp/rerank"]


@pytest.mark.parametrize("path", RERANK_PATHS)
async def test_rerank_is_best_first(
    client: httpx.AsyncClient, worker: FakeWorker, path: str
) -> None:
    documents = ["a", {"text": "abc"}, "ab"]
    async with worker.serving(answers):
        found = await post(client, path, model="smollm2", query="q", documents=documents, top_n=2)
    assert found["results"] == [
        {"index": 1, "relevance_score": 3.0},
        {"index": 2, "relevance_score": 2.0},
    ]
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert (found["model"], found["object"]) == (MODEL, "list")


async def test_rerank_returns_documents_when_asked(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with worker.serving(answers):
        found = await post(
            client, "/rerank", model="smollm2", query="q", documents=["a"], return_documents=True
        )
        tei = await post(
            client, "/rerank", model="smollm2", query="q", texts=["a", "bb"], return_text=True
        )
    assert found["results"][0]["document"] == {"text": "a"}
    assert tei == [
        {"index": 1, "score": 2.0, "text": "bb"},
        {"index": 0, "score": 1.0, "text": "a"},
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": "q"}, "documents"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": ["a"], "texts": ["a"]}, "documents"),
        ({"documents": ["a"]}, "query"),
        ({"query": "q", "documents": ["a"], "raw_scores": True}, "raw_scores"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
async def test_bad_rerank_requests_are_named(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    answer = await client.post("/rerank", json={"model": "smollm2", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_score_one_against_many_is_one_job(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with worker.serving(answers):
        found = await post(client, "/v1/score", model="smollm2", text_1="q", text_2=["a", "bb"])
    assert [one["score"] for one in found["data"]] == [1.0, 2.0]
    assert len(worker.taken) == 1


async def test_score_pairs_are_a_job_each_in_order(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with worker.serving(answers):
        found = await post(
            client, "/score", model="smollm2", text_1=["p", "q"], text_2=["aaa", "b"]
        )
    assert [one["score"] for one in found["data"]] == [3.0, 1.0]
    assert {one.query for one in worker.taken} == {"p", "q"}  # type: ignore[union-attr]
    answer = await client.post(
        "/score", json={"model": "smollm2", "text_1": ["p", "q"], "text_2": ["a"]}
    )
    assert answer.json()["error"]["param"] == "text_2"


async def test_tokenize_as_llama_server(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        plain = await post(client, "/tokenize", content="café")
        pieces = await post(client, "/tokenize", content="café", with_pieces=True, add_special=True)
    assert plain == {"tokens": [1, 2, 3]}
    assert pieces["tokens"][1:] == [{"id": 2, "piece": "caf"}, {"id": 3, "piece": [0xC3]}]
    assert [one.add_special for one in worker.taken] == [False, True]  # type: ignore[union-attr]


async def test_tokenize_as_vllm(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    hello = [{"role": "user", "content": "hi"}]
    async with worker.serving(answers):
        found = await post(
            client, "/tokenize", model="smollm2", prompt="café", return_token_strs=True
        )
        await post(client, "/v1/tokenize", model="smollm2", messages=hello)
    assert found == {
        "count": 3,
        "max_model_len": 8192,
        "tokens": [1, 2, 3],
        "token_strs": ["<s>", "caf", "\ufffd"],
    }
    text, chat = worker.taken
    assert isinstance(text, Tokenize)
    assert (text.input, text.add_special) == (Prompt(text="café"), True)
    assert isinstance(chat, Tokenize)
    assert chat.add_special is False


async def test_detokenize_answers_under_both_names(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    async with worker.serving(answers):
        found = await post(client, "/detokenize", tokens=[1, 2])
    assert found == {"content": "café", "prompt": "café"}
    assert worker.taken[0].tokens == (1, 2)  # type: ignore[union-attr]


async def test_apply_template_is_the_prompt(client: httpx.AsyncClient, worker: FakeWorker) -> None:
    async with worker.serving(answers):
        found = await post(client, "/apply-template", messages=[{"role": "user", "content": "hi"}])
    assert found == {"prompt": "<s>caf\ufffd"}


@pytest.mark.parametrize("body", [{}, {"content": "a", "prompt": "b"}])
async def test_tokenize_needs_one_text(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await client.post("/tokenize", json={"model": "smollm2", **body})
    assert answer.json()["error"]["param"] == "content"


async def test_adapters_of_loaded_models_are_listed(
    client: httpx.AsyncClient, worker: FakeWorker
) -> None:
    await worker.show(
        LoadedModel(model="ai/two:latest", adapters=("b", "a")),
        LoadedModel(model="ai/one:latest", adapters=("a",)),
        LoadedModel(model="ai/none:latest"),
    )
    answer = await client.get("/lora-adapters")
    assert answer.json() == [
        {"id": 0, "name": "a", "model": "ai/one:latest", "scale": 0.0},
        {"id": 0, "name": "b", "model": "ai/two:latest", "scale": 0.0},
        {"id": 1, "name": "a", "model": "ai/two:latest", "scale": 0.0},
    ]
    assert (await client.post("/lora-adapters", json=[])).status_code == 405
