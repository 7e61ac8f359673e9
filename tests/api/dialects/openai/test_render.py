"""OpenAI's streams: the exact bytes, the same at every cut, and what they amount to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from api.dialects.openai import completions, render
from shared.events import (
    ChoiceEnd,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    Usage,
)
from tests.api.dialects.scripts import (
    GOOD,
    SCRIPTS,
    completed,
    every_batching,
    every_cut,
    logprob,
)
from tests.golden import golden


def head(**more: Any) -> render.Head:
    return render.Head(id="job_1", model="ai/smollm2:latest", created=1700000000, **more)


def streamed(batches: Iterable[Sequence[Event]], **more: Any) -> bytes:
    out = render.ChatStream(head(**more))
    return b"".join(out.feed(batch) for batch in batches)


def text_streamed(batches: Iterable[Sequence[Event]], **more: Any) -> bytes:
    out = completions.TextStream(head(**more))
    return b"".join(out.feed(batch) for batch in batches)


def chunks(data: bytes) -> list[dict[str, Any]]:
    *events, done, rest = data.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def accumulated(data: bytes) -> dict[str, Any]:
    """The message a client puts together."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": {}}
    for chunk in chunks(data):
        for choice in chunk["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls", ()):
                known = message["tool_calls"].setdefault(call["index"], {"arguments": ""})
                known["id"] = call.get("id") or known["id"]
                known["name"] = call["function"].get("name") or known["name"]
                known["arguments"] += call["function"]["arguments"]
            message["finish_reason"] = choice["finish_reason"]
    return message


def blocking(events: Sequence[Event]) -> dict[str, Any]:
    choice = json.loads(render.chat(head(), completed(events)))["choices"][0]
    message = choice["message"]
    return {
        "content": message["content"] or "",
        "reasoning_content": message.get("reasoning_content", ""),
        "tool_calls": {
            n: {"id": call["id"], **call["function"]}
            for n, call in enumerate(message.get("tool_calls", ()))
        },
        "finish_reason": choice["finish_reason"],
    }


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_chat_stream_is_these_bytes(name: str) -> None:
    assert streamed([SCRIPTS[name]]) == golden(f"openai/chat_{name}.sse")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_completion_stream_is_these_bytes(name: str) -> None:
    assert text_streamed([SCRIPTS[name]]) == golden(f"openai/text_{name}.sse")


def test_a_stream_with_usage_is_these_bytes() -> None:
    found = streamed([SCRIPTS["plain"]], with_usage=True, service_tier="default")
    assert found == golden("openai/chat_usage.sse")
    assert text_streamed([SCRIPTS["plain"]], with_usage=True) == golden("openai/text_usage.sse")


@pytest.mark.parametrize("name", GOOD)
def test_whole_answers_are_these_bytes(name: str) -> None:
    done = completed(SCRIPTS[name])
    chat, text = render.chat(head(), done), completions.whole(head(), [done])
    assert msgspec.json.format(chat) + b"\n" == golden(f"openai/chat_{name}.json")
    assert msgspec.json.format(text) + b"\n" == golden(f"openai/text_{name}.json")


@pytest.mark.parametrize("name", SCRIPTS)
def test_batches_do_not_matter(name: str) -> None:
    chat, text = streamed([SCRIPTS[name]]), text_streamed([SCRIPTS[name]])
    for batches in every_batching(SCRIPTS[name]):
        assert streamed(batches) == chat
        assert text_streamed(batches) == text


@pytest.mark.parametrize("name", GOOD)
def test_every_cut_of_a_stream_amounts_to_the_whole_answer(name: str) -> None:
    wanted = blocking(SCRIPTS[name])
    for events in every_cut(SCRIPTS[name]):
        assert accumulated(streamed([events])) == wanted


@pytest.mark.parametrize("name", GOOD)
def test_every_cut_of_a_completion_amounts_to_the_whole(name: str) -> None:
    whole = json.loads(completions.whole(head(), [completed(SCRIPTS[name])]))["choices"][0]
    for events in every_cut(SCRIPTS[name]):
        choices = [one for chunk in chunks(text_streamed([events])) for one in chunk["choices"]]
        assert "".join(choice["text"] for choice in choices) == whole["text"]
        assert choices[-1]["finish_reason"] == whole["finish_reason"]


def test_every_token_is_a_chunk_of_its_own() -> None:
    words = [TextDelta(text=f"{n} ") for n in range(20)]
    found = chunks(streamed([[Started(prompt_tokens=1), *words, Finished(choices=(ChoiceEnd(),))]]))
    assert len(found) == 1 + 20 + 1  # role, tokens, finish
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_each_choice_begins_and_ends_once() -> None:
    events = [
        TextDelta(text="b", choice=1),
        TextDelta(text="a"),
        Finished(choices=(ChoiceEnd(), ChoiceEnd(reason="length"), ChoiceEnd())),
    ]
    found = [chunk["choices"][0] for chunk in chunks(streamed([events]))]
    roles = [one["index"] for one in found if "role" in one["delta"]]
    ends = [(one["index"], one["finish_reason"]) for one in found if one["finish_reason"]]
    assert sorted(roles) == [0, 1, 2]
    assert ends == [(0, "stop"), (1, "length"), (2, "stop")]


def test_usage_and_timings_are_counted_from_the_worker_s() -> None:
    *_, last = chunks(streamed([SCRIPTS["tools"]], with_usage=True))
    assert last["choices"] == []
    usage, timings = last["usage"], last["timings"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] == 21
    assert usage["prompt_tokens_details"]["cached_tokens"] == 4
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4
    assert (timings["cache_n"], timings["prompt_n"], timings["predicted_n"]) == (4, 5, 12)
    assert timings["predicted_per_second"] == pytest.approx(12 / 0.0205)


def test_usage_is_null_until_the_last_chunk_and_absent_when_not_asked_for() -> None:
    *before, last = chunks(streamed([SCRIPTS["plain"]], with_usage=True))
    assert {chunk["usage"] for chunk in before} == {None}
    assert last["usage"]
    assert not any("usage" in chunk for chunk in chunks(streamed([SCRIPTS["plain"]])))


def test_logprobs_have_bytes_and_alternatives() -> None:
    half = "é".encode()[:1]
    events = [
        ReasoningDelta(text="h", logprobs=(logprob(b"h"),)),
        TextDelta(text="é", logprobs=(logprob(half), logprob(half))),
        Finished(choices=(ChoiceEnd(),)),
    ]
    for found in (
        json.loads(render.chat(head(with_logprobs=True), completed(events)))["choices"][0],
        {"logprobs": _joined(chunks(streamed([events], with_logprobs=True)))},
    ):
        content = found["logprobs"]["content"]
        assert [one["bytes"] for one in content] == [[0xC3], [0xC3]]
        assert [top["logprob"] for top in content[0]["top_logprobs"]] == [-0.5, -2.5]
        assert [one["token"] for one in found["logprobs"]["reasoning_content"]] == ["h"]


def _joined(found: list[dict[str, Any]]) -> dict[str, Any]:
    logprobs = [choice["logprobs"] for chunk in found for choice in chunk["choices"]]
    return {
        name: [one for part in logprobs if part for one in part.get(name, ())]
        for name in ("content", "reasoning_content")
    }


def test_old_logprobs_are_four_lists_with_offsets() -> None:
    events = [
        TextDelta(text="ab", logprobs=(logprob(b"a"), logprob(b"b"))),
        TextDelta(text="c", logprobs=(logprob(b"c"),)),
        Finished(choices=(ChoiceEnd(),)),
    ]
    done = json.loads(completions.whole(head(with_logprobs=True), [completed(events)]))
    assert done["choices"][0]["logprobs"]["tokens"] == ["a", "b", "c"]
    assert done["choices"][0]["logprobs"]["text_offset"] == [0, 1, 2]
    offsets = [
        chunk["choices"][0]["logprobs"]["text_offset"]
        for chunk in chunks(text_streamed([events], with_logprobs=True))[:2]
    ]
    assert offsets == [[0, 1], [2]]


def test_choices_of_several_prompts_are_numbered_on() -> None:
    done = completed([TextDelta(text="x"), Finished(choices=(ChoiceEnd(),) * 2, usage=Usage(
        prompt_tokens=3, completion_tokens=1))])  # fmt: skip
    answer = json.loads(completions.whole(head(), [done, done]))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 6
