"""What Docker Model Runner's own tests check of its HTTP surface, row by row, asked of Caravan.

A row is a check here, or a reason in APART why it cannot be one. The rows about the store of
models (C1 to C25) and about placing models belong to the store's tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis

from api import transcript
from api.app import create_app
from shared import keys, settings
from shared.errors import Internal
from shared.events import Event, Started
from shared.messages import Image, Message, Text
from shared.requests import Chat, Generate, JsonSchema, Request
from shared.settings import BadSetting, Settings
from tests.api.caller import chat
from tests.api.dialects.scripts import TOOLS
from tests.api.fleet import MODEL, FakeWorker, said

APART = {
    "C46": "durations of keep_alive: tests/api/test_durations.py",
    "C47": "idle eviction: tests/workers/test_placement.py, tests/system/test_placement.py",
    "C48": "idle and crashed holders give their place up: tests/workers/test_placing.py, "
    "tests/system/test_placement.py, tests/system/test_harmed_models.py",
    "C54": "the command line: tests/cli/test_models.py",
    "C56": "not there; here: tests/workers/test_placing.py (a loaded one deleted, a busy one "
    "unloaded, memory), tests/api/test_store_failures.py (pulls that fail, two at once), "
    "tests/shared/test_queue.py (order)",
}
RESPONSES = (
    "/responses",
    "/v1/responses",
    "/engines/responses",
    "/engines/v1/responses",
    "/engines/llama.cpp/v1/responses",
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
JPEG, PNG, GIF = "/9j/4AAQ", "iVBORw0K", "R0lGODlh"


class Bench:
    """What a row has to work with."""

    def __init__(self, redis: ArqRedis, settings: Settings, worker: FakeWorker) -> None:
        self.redis = redis
        self.settings = settings
        self.worker = worker

    @asynccontextmanager
    async def client(self, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A caller of a server with these settings changed."""
        app = create_app(msgspec.structs.replace(self.settings, **changes), self.redis)
        async with app.service.running():
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
                yield client

    @asynccontextmanager
    async def served(
        self, script: Callable[[Request], Sequence[Event]] = lambda _: said("hello world")
    ) -> AsyncIterator[httpx.AsyncClient]:
        """A caller whose jobs are answered."""
        async with self.client() as client, self.worker.serving(script):
            yield client

    @property
    def asked(self) -> Generate:
        """What the worker was asked last."""
        last = self.worker.taken[-1]
        assert isinstance(last, Generate)
        return last

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation in it."""
        assert isinstance(self.asked.input, Chat)
        return self.asked.input.messages


Check = Callable[[Bench], Awaitable[None]]
ROWS: dict[str, Check] = {}


def row(number: str) -> Callable[[Check], Check]:
    def put(check: Check) -> Check:
        ROWS[number] = check
        return check

    return put


@pytest.mark.parametrize("number", [f"C{n}" for n in range(26, 57)])
async def test_row(
    number: str, fake_redis: ArqRedis, settings: Settings, worker: FakeWorker
) -> None:
    assert (number in ROWS) != (number in APART)
    if number in APART:
        pytest.skip(APART[number])
    await ROWS[number](Bench(fake_redis, settings, worker))


def ask(**more: Any) -> dict[str, Any]:
    """A Responses request's body."""
    return {"model": "smollm2", "input": "hi", **more}


@row("C26")
async def preflight(bench: Bench) -> None:
    async with bench.client(origins="*") as client:
        for path in ("/", "/models/list", "/status"):
            answer = await client.options(path, headers={"origin": "http://foo.com"})
            assert answer.status_code == 204


@row("C27")
async def origins(bench: Bench) -> None:
    foo = "http://foo.com"
    for allowed, method, origin, status in (
        ("*", "GET", foo, 200),
        (foo, "GET", foo, 200),
        (foo, "GET", "http://bar.com", 403),
        (foo, "DELETE", foo, 404),  # allowed; there is nothing to delete
        (foo, "GET", None, 200),
        ("", "GET", foo, 403),
    ):
        async with bench.client(origins=allowed) as client:
            path = "/v1/models" if method == "GET" else "/responses/resp_none"
            headers = {"origin": origin} if origin else {}
            answer = await client.request(method, path, headers=headers)
        assert answer.status_code == status
        echoed = answer.headers.get("access-control-allow-origin")
        assert echoed == (origin if status != 403 else None)


@row("C28")
async def bad_chats(bench: Bench) -> None:
    path = "/engines/v1/chat/completions"
    async with bench.client() as client:
        unknown = await client.post(path, json={**chat(), "model": "nobody/none"})
        malformed = await client.post(path, content=b"{")
        empty = await client.post(path, json={"model": "smollm2", "messages": []})
    assert (unknown.status_code, malformed.status_code, empty.status_code) == (404, 400, 400)


@row("C29")
async def whole_chat(bench: Bench) -> None:
    async with bench.served() as client:
        answer = await client.post("/engines/v1/chat/completions", json=chat())
    message = answer.json()["choices"][0]["message"]
    assert (answer.status_code, message["role"]) == (200, "assistant")
    assert message["content"]


@row("C30")
async def streamed_chat(bench: Bench) -> None:
    async with bench.served() as client:
        answer = await client.post("/engines/v1/chat/completions", json=chat(stream=True))
    lines = answer.text.splitlines()
    assert all(line == "" or line.startswith((":", "data: ")) for line in lines)
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in data]
    assert "".join(delta.get("content", "") for delta in deltas) == "hello world "


@row("C31")
async def parallel_chats(bench: Bench) -> None:
    async with bench.served() as client:
        posts = [client.post("/engines/v1/chat/completions", json=chat(f"{n}")) for n in range(5)]
        answers = await asyncio.gather(*posts)
    assert all(answer.json()["choices"][0]["message"]["content"] for answer in answers)


@row("C32")
async def whole_response(bench: Bench) -> None:
    schema = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}

    def script(request: Request) -> Sequence[Event]:
        bound = isinstance(request, Generate) and request.constraint == JsonSchema(schema=SCHEMA)
        return said('{"city":"Oslo"}' if bound else "hello")

    async with bench.served(script) as client:
        plain = (await client.post("/responses", json=ask())).json()
        bound = (await client.post("/responses", json=ask(text=schema))).json()
    assert (plain["status"], plain["output_text"]) == ("completed", "hello ")
    assert json.loads(bound["output_text"]) == {"city": "Oslo"}


@row("C33")
async def no_model(bench: Bench) -> None:
    async with bench.client() as client:
        for path in RESPONSES:
            answer = await client.post(path, json={"input": "hi"})
            error = answer.json()["error"]
            assert answer.status_code == 400
            assert (error["code"], error["message"]) == ("invalid_request", "model is required")


@row("C34")
async def unsupported_members(bench: Bench) -> None:
    """Three of Docker's nine are more than refused here: `top_logprobs` and, of what is stored,
    `background` are honoured; `safety_identifier` has no effect, as in chat completions."""
    refused: list[dict[str, Any]] = [
        {"include": ["file_search_call.results"]},
        {"stream_options": {"include_obfuscation": True}},
        {"truncation": "auto"},
        {"background": True, "store": False},
        {"conversation": "conv_1"},
        {"prompt": {"id": "p"}},
        {"service_tier": "priority"},
        {"tools": [{"type": "web_search_preview"}]},
        {"text": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"previous_response_id": "resp_nobody"},
    ]
    async with bench.client() as client:
        answers = [await client.post("/v1/responses", json=ask(**more)) for more in refused]
        answers.append(await client.post("/v1/responses", content=b"{"))
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert not await bench.redis.exists(keys.lane(MODEL, "interactive"))


@row("C35")
async def members_without_effect(bench: Bench) -> None:
    nothing = ("include", "stream_options", "top_logprobs", "conversation", "prompt", "tools")
    more = {"background": False, "truncation": "disabled", **dict.fromkeys(nothing)}
    async with bench.served() as client:
        answer = await client.post("/v1/responses", json=ask(**more))
    assert answer.status_code == 200
    assert len(bench.worker.taken) == 1


@row("C36")
async def not_stored(bench: Bench) -> None:
    async with bench.served() as client:
        whole = (await client.post("/v1/responses", json=ask(store=False))).json()
        text = (await client.post("/v1/responses", json=ask(store=False, stream=True))).text
        streamed = json.loads(text.strip().rpartition("data: ")[2])["response"]
        for response in (whole, streamed):
            assert response["store"] is False
            assert (await client.get(f"/v1/responses/{response['id']}")).status_code == 404


@row("C37")
async def stored(bench: Bench) -> None:
    async with bench.served() as client:
        made = (await client.post("/v1/responses", json=ask())).json()
        path = f"/v1/responses/{made['id']}"
        assert (await client.get(path)).json() == made
        deleted = await client.delete(path)
        assert deleted.json() == {
            "id": made["id"],
            "object": "response.deleted",
            "deleted": True,
        }
        missing = await client.get(path)
    assert (deleted.status_code, missing.status_code) == (200, 404)
    assert missing.json()["error"]["code"] == "not_found"
    assert missing.json()["error"]["message"].startswith("Response not found")


@row("C38")
async def a_backend_by_name(bench: Bench) -> None:
    async with bench.served() as client:
        ours = await client.post("/engines/llama.cpp/v1/responses", json=ask())
        other = await client.post("/engines/vllm/v1/responses", json=ask())
    assert (ours.status_code, other.status_code) == (200, 404)
    assert "backend not found" in other.json()["error"]["message"]


@row("C39")
async def failed(bench: Bench) -> None:
    """There is no upstream here: the code is OpenAI's own, `server_error`."""
    async with bench.served(lambda _: (Started(prompt_tokens=1), Internal("oh no").event())) as one:
        answer = await one.post("/v1/responses", json=ask())
    assert (answer.status_code, answer.json()["status"]) == (500, "failed")
    assert answer.json()["error"]["code"] == "server_error"
    assert answer.json()["error"]["message"]


@row("C40")
async def streamed_response(bench: Bench) -> None:
    async with bench.served() as client:
        answer = await client.post("/responses", json=ask(stream=True))
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        events = [json.loads(one) for one in data]
        kinds = {event["type"] for event in events}
        kept = (await client.get(f"/responses/{events[-1]['response']['id']}")).json()
    assert kinds >= {"response.created", "response.output_text.delta", "response.completed"}
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert kept["output_text"] == "".join(deltas) == "hello world "


@row("C41")
async def tools_of_a_response(bench: Bench) -> None:
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    async with bench.served(lambda _: TOOLS) as client:
        answer = (await client.post("/responses", json=ask(tools=tools))).json()
    calls = [item for item in answer["output"] if item["type"] == "function_call"]
    assert [(call["name"], call["call_id"]) for call in calls] == [
        ("weather", "call_a"),
        ("clock", "call_b"),
    ]
    assert answer["output_text"] == "One moment."


@row("C42")
async def anthropic_refusals(bench: Bench) -> None:
    path = "/anthropic/v1/messages"
    turns = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    big = json.dumps({"model": "smollm2", **turns, "system": "x" * (10 * 1024 * 1024)}).encode()
    wanted = ((b"{", 400), (json.dumps(turns).encode(), 400), (b'{"model":""}', 400), (big, 413))
    async with bench.client() as client:
        for body, status in wanted:
            answer = await client.post(path, content=body)
            assert answer.status_code == status
            kind = "request_too_large" if status == 413 else "invalid_request_error"
            assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", kind)


@row("C43")
async def anthropic_message(bench: Bench) -> None:
    asked = {"model": "smollm2", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    async with bench.served() as client:
        answer = await client.post("/anthropic/v1/messages", json=asked)
    assert answer.status_code == 200
    assert answer.json()["content"][0]["text"]


@row("C44")
async def ollama_routes(bench: Bench) -> None:
    async with bench.served() as client:
        said = (await client.post("/api/chat", json=chat(stream=False))).json()
        asked = {"model": "smollm2", "prompt": "hi", "stream": False}
        told = (await client.post("/api/generate", json=asked)).json()
        tags = (await client.get("/api/tags")).json()
        shown = await client.post("/api/show", json={"model": "smollm2"})
    assert (said["done"], told["done"]) == (True, True)
    assert said["message"]["content"]
    assert told["response"]
    assert tags["models"]
    assert shown.status_code == 200


@row("C45")
async def ollama_messages(bench: Bench) -> None:
    """Images go to the engine as bytes, so no kind is told from their first letters; an empty
    image is an error."""
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "text"},
        {"role": "user", "content": "one", "images": [JPEG]},
        {"role": "user", "content": "", "images": [PNG, f"data:image/gif;base64,{GIF}"]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c"},
        {"role": "user", "content": "last"},
    ]
    async with bench.served() as client:
        await client.post("/api/chat", json={"model": "smollm2", "messages": turns})
        turns[2]["images"] = [""]
        empty = await client.post("/api/chat", json={"model": "smollm2", "messages": turns})
    kinds = [[type(part) for part in message.content] for message in bench.messages]
    assert [message.role for message in bench.messages] == [turn["role"] for turn in turns]
    assert sorted(map(str, kinds[2])) == sorted(map(str, [Text, Image]))
    assert kinds[3].count(Image) == 2
    assert json.loads(bench.messages[4].tool_calls[0].arguments) == {"a": 1}
    assert (bench.messages[5].tool_call_id, bench.messages[5].text) == ("c", "2")
    assert empty.status_code == 400


@row("C49")
async def engines(bench: Bench) -> None:
    """There is one engine, for every format it reads; another one's name is a 404, by any route."""
    bodies: dict[str, Any] = {
        "v1/chat/completions": chat(),
        "v1/completions": {"model": "smollm2", "prompt": "hi"},
        "v1/messages": {**chat(), "max_tokens": 5},
        "v1/responses": ask(),
        "_configure": {"model": "smollm2"},
    }
    async with bench.served() as client:
        for path, body in bodies.items():
            ours = await client.post(f"/engines/llama.cpp/{path}", json=body)
            assert ours.status_code == (202 if path == "_configure" else 200), path
            for engine in ("vllm", "mlx", "sglang", "diffusers", "none"):
                other = await client.post(f"/engines/{engine}/{path}", json=body)
                assert (other.status_code, "backend not found" in other.text) == (404, True)


@row("C50")
async def runtime_flags(bench: Bench) -> None:
    """Only flags that hold for one model are allowed, so sampling and paths are not."""
    allowed = (["--ctx-size", "4096"], ["-ngl=0"], ["--threads=-1"], ["-np", "2", "-b", "64"])
    paths = ("/x", "\\x", "../x", "./x", "http://x")
    refused = (
        *(["--unknown", path] for path in paths),
        *([f"--ctx-size={path}"] for path in paths),
        ["--x=--y"],
        ["--x=-l"],
        ["--ctx-size=--threads"],
        ["--seed=-1"],
        ["--t=-0.5"],
    )
    asked = {"model": "smollm2"}
    async with bench.client() as client:
        for flags in (*allowed, *refused):
            body = {**asked, "runtime-flags": flags}
            answer = await client.post("/engines/_configure", json=body)
            assert answer.status_code == (202 if flags in allowed else 400), flags
        other = {**asked, "runtime-flags": allowed[0]}
        assert (await client.post("/engines/vllm/_configure", json=other)).status_code == 404


@row("C51")
async def overrides_of_another_engine(bench: Bench) -> None:
    asked = {"model": "smollm2", "vllm": {"hf-overrides": {"bad-key;": 1}}}
    async with bench.client() as client:
        answer = await client.post("/engines/_configure", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "vllm")


@row("C52")
async def logs(bench: Bench) -> None:
    """No log folder is ever kept, so this is Docker's 501 for every query."""
    async with bench.client() as client:
        for query in ("", "?no-engines=true", "?follow=true"):
            assert (await client.get(f"/logs{query}")).status_code == 501


@row("C53")
async def records(bench: Bench) -> None:
    image = "data:image/png;base64," + "A" * 200
    content = [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "input_audio", "input_audio": {"data": "B" * 200, "format": "wav"}},
        {"type": "image_url", "image_url": {"url": image[:100]}},
    ]
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": content}]}
    kept = json.loads(transcript.of_request(json.dumps(asked).encode()))
    first, sound, short = kept["messages"][0]["content"]
    assert first["image_url"]["url"].startswith(image[:100] + "...")
    assert len(sound["input_audio"]["data"]) < 150
    assert short["image_url"]["url"] == image[:100]
    assert transcript.of_request(b'{"model": ') == '{"model": '


@row("C55")
async def raw_arguments(bench: Bench) -> None:
    """The engine has no raw arguments: each is a setting with a type, and an unknown one stops the
    start by its name."""
    for name in ("LLAMA_ARGS", "MMPROJ", "EMBEDDINGS"):
        with pytest.raises(BadSetting, match=f"CARAVAN_{name}"):
            settings.read({f"CARAVAN_{name}": "--model x"})
    assert settings.read({"CARAVAN_MODEL": "m=/a b.gguf"}).models == (("m", "/a b.gguf"),)
