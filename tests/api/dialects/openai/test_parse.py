"""Every field of a chat request is honoured, without effect, or refused by name: here is which."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from api import body
from api.dialects.openai import parse
from api.dialects.openai.types import ChatRequest, CompletionRequest
from shared.errors import RequestError, Unsupported
from shared.messages import Audio, Image, Message, Text, Tool, ToolCall
from shared.requests import (
    Adapter,
    Chat,
    Generate,
    Grammar,
    JsonObject,
    JsonSchema,
    Regex,
    Sampling,
    Thinking,
    ToolChoice,
)

HELLO = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
DECODER = msgspec.json.Decoder(ChatRequest)


def parsed(**fields: Any) -> Generate:
    asked = {"model": "smollm2", "messages": [HELLO], **fields}
    return parse.chat(body.parse(msgspec.json.encode(asked), DECODER), job="job-1")


def chat_of(generate: Generate) -> Chat:
    assert isinstance(generate.input, Chat)
    return generate.input


PLAIN = parsed()

SAMPLING: dict[str, Any] = {
    "temperature": 0.1,
    "top_p": 0.5,
    "seed": 7,
    "presence_penalty": 1.5,
    "frequency_penalty": -1.0,
    "top_k": 5,
    "min_p": 0.2,
    "typical_p": 0.9,
    "top_n_sigma": 1.0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 32,
    "mirostat": 2,
    "mirostat_tau": 4.0,
    "mirostat_eta": 0.2,
    "dynatemp_range": 0.5,
    "dynatemp_exponent": 2.0,
    "dry_multiplier": 0.8,
    "dry_base": 1.5,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 64,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.2,
}

# field -> (what is sent, what of the canonical request it becomes)
HONOURED: dict[str, tuple[Any, dict[str, Any]]] = {
    **{name: (value, {"sampling": {name: value}}) for name, value in SAMPLING.items()},
    "dry_sequence_breakers": (["\n"], {"sampling": {"dry_sequence_breakers": ("\n",)}}),
    "logit_bias": ({"15": -100}, {"sampling": {"logit_bias": {15: -100.0}}}),
    "repetition_penalty": (1.2, {"sampling": {"repeat_penalty": 1.2, "repeat_last_n": -1}}),
    "max_tokens": (9, {"max_tokens": 9}),
    "max_completion_tokens": (9, {"max_tokens": 9}),
    "min_tokens": (3, {"min_tokens": 3}),
    "ignore_eos": (True, {"ignore_eos": True}),
    "n": (3, {"choices": 3}),
    "stop": (["a", "b"], {"stop": ("a", "b")}),
    "logprobs": (True, {"logprobs": 0}),
    "service_tier": ("flex", {"lane": "batch"}),
    "lora": ([{"id": 0, "scale": 0.5}], {"adapters": (Adapter(name=0, scale=0.5),)}),
    "response_format": ({"type": "json_object"}, {"constraint": JsonObject()}),
    "grammar": ('root ::= "a"', {"constraint": Grammar(text='root ::= "a"', syntax="gbnf")}),
    "json_schema": ({"type": "null"}, {"constraint": JsonSchema(schema={"type": "null"})}),
    "guided_json": ({"type": "null"}, {"constraint": JsonSchema(schema={"type": "null"})}),
    "guided_regex": ("a+", {"constraint": Regex(pattern="a+")}),
    "guided_choice": (["a.b", "c"], {"constraint": Regex(pattern=r"a\.b|c")}),
    "guided_grammar": ("start: A", {"constraint": Grammar(text="start: A", syntax="lark")}),
    "tools": ([WEATHER], {"tools": (Tool(name="weather", parameters={"type": "object"}),)}),
    "tool_choice": ("none", {"tool_choice": ToolChoice(mode="none")}),
    "parallel_tool_calls": (False, {"tool_choice": ToolChoice(parallel=False)}),
    "reasoning_effort": ("low", {"thinking": Thinking(enabled=True, effort="low")}),
    "reasoning_budget": (64, {"thinking": Thinking(enabled=True, budget=64)}),
    "chat_template_kwargs": ({"x": 1}, {"template_options": {"x": 1}}),
    "model": ("other", {"model": "ai/other:latest"}),
    "messages": ([{"role": "user", "content": "a"}], {"messages": (Message(
        role="user", content=(Text(text="a"),)),)}),
}  # fmt: skip
# needs company; their own tests are below
TOGETHER = {"top_logprobs", "stream", "stream_options", "continue_final_message"}
NO_EFFECT: dict[str, Any] = {
    "user": "u1",
    "cache_prompt": False,
    "metadata": {"a": "b"},
    "store": True,
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prediction": {"type": "content", "content": "x"},
}
REFUSED: dict[str, Any] = {
    "modalities": ["text", "audio"],
    "audio": {"voice": "a"},
    "verbosity": "high",
    "web_search_options": {},
    "functions": [],
    "function_call": "auto",
    "moderation": {"model": "m"},
    "prompt_cache_options": {},
    "add_generation_prompt": False,
}


def test_every_field_is_in_one_of_the_tables() -> None:
    tables = [set(HONOURED), TOGETHER, set(NO_EFFECT), set(REFUSED)]
    assert sum(map(len, tables)) == len(set.union(*tables))
    assert set.union(*tables) == set(ChatRequest.__struct_fields__)


@pytest.mark.parametrize("field", HONOURED)
def test_an_honoured_field_becomes_what_the_table_says(field: str) -> None:
    sent, wanted = HONOURED[field]
    found = parsed(**{field: sent})
    for name, value in wanted.items():
        if name == "sampling":
            assert found.sampling == Sampling(**value)
        elif name in Chat.__struct_fields__:
            assert getattr(found.input, name) == value
        else:
            assert getattr(found, name) == value


@pytest.mark.parametrize("field", NO_EFFECT)
def test_a_field_without_effect_changes_nothing(field: str) -> None:
    assert parsed(**{field: NO_EFFECT[field]}) == PLAIN


@pytest.mark.parametrize("field", REFUSED)
def test_a_refused_field_is_named(field: str) -> None:
    with pytest.raises(Unsupported) as caught:
        parsed(**{field: REFUSED[field]})
    assert caught.value.param == field


@pytest.mark.parametrize("field", set(ChatRequest.__struct_fields__) - {"model", "messages"})
def test_null_is_absent(field: str) -> None:
    assert parsed(**{field: None}) == PLAIN


def test_defaults_are_the_canonical_ones() -> None:
    hi = Message(role="user", content=(Text(text="hi"),))
    assert Generate(id="job-1", model="ai/smollm2:latest", input=Chat(messages=(hi,))) == PLAIN


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [HELLO, {"role": "robot", "content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [HELLO | {"colour": "red"}]}, "messages[0].colour"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]},
         "messages[0].content[0].type"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"seed": 2**64}, "seed"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
         "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
         "response_format.json_schema.schema"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"repeat_penalty": 1.1, "repetition_penalty": 1.1}, "repetition_penalty"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"lora": [{"id": 0, "scale": 1}, {"scale": 1}]}, "lora[1]"),
        ({"lora": [{"id": 0, "name": "a", "scale": 1}]}, "lora[0]"),
        ({"lora": [{"id": 0}]}, "lora[0].scale"),
        ({"lora": [{"id": 0, "scale": 11}]}, "lora[0].scale"),
        ({"lora": [{"id": "0", "scale": 1}]}, "lora[0].id"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_bad_input_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        parsed(**fields)
    assert caught.value.param == param
    assert param.split("[")[0].split(".")[0] in caught.value.message


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b"[" * 9999]
)
def test_what_is_no_request_is_an_error_of_the_caller(junk: bytes) -> None:
    with pytest.raises(RequestError):
        body.parse(junk, DECODER)


def test_a_conversation_keeps_everything() -> None:
    png = base64.b64encode(b"PNG").decode()
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found = chat_of(
        parsed(
            messages=[
                {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
                {
                    "role": "user",
                    "name": "ann",
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
                        {"type": "input_audio", "input_audio": {"data": png, "format": "wav"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call],
                    "reasoning_content": "hm",
                    "refusal": None,
                    "annotations": [],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ]
        )
    )
    assert found.messages == (
        Message(role="system", content=(Text(text="be brief"),)),
        Message(role="user", name="ann", content=(Image(data=b"PNG"), Audio(data=b"PNG"))),
        Message(
            role="assistant",
            tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),),
            reasoning="hm",
        ),
        Message(role="tool", tool_call_id="c1", content=(Text(text="42"),)),
    )


@pytest.mark.parametrize("url", ["ftp://x/y.png", "data:image/png,AA", "data:image/png;base64,?"])
def test_an_image_must_come_along(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(RequestError) as caught:
        parsed(messages=[{"role": "user", "content": [part]}])
    assert caught.value.param == "messages[0].content[0].image_url.url"


def test_adapters_by_place_and_by_name() -> None:
    wanted = [{"name": "style", "scale": 0.5}, {"id": 1, "scale": -1}]
    adapters = (Adapter(name="style", scale=0.5), Adapter(name=1, scale=-1.0))
    assert parsed(lora=wanted).adapters == adapters


def test_logprobs_counts_alternatives() -> None:
    assert parsed(logprobs=True, top_logprobs=4).logprobs == 4
    assert parsed(logprobs=False).logprobs is None


def test_a_random_seed_can_be_asked_for() -> None:
    assert parsed(seed=-1).sampling.seed is None


def test_thinking_can_be_switched_off() -> None:
    off = Thinking(enabled=False)
    assert chat_of(parsed(reasoning_effort="none")).thinking == off
    assert chat_of(parsed(reasoning_budget=0)).thinking == off
    assert chat_of(parsed(reasoning_budget=-1)).thinking == Thinking()


def test_every_token_may_be_a_candidate() -> None:
    assert parsed(top_k=-1).sampling.top_k == parsed(top_k=0).sampling.top_k == 0


def test_the_last_message_can_be_continued() -> None:
    messages = [HELLO, {"role": "assistant", "content": "Once"}]
    more = {"messages": messages, "continue_final_message": True}
    assert chat_of(parsed(**more)).continue_final
    assert chat_of(parsed(**more, add_generation_prompt=False)).continue_final


def test_a_tool_can_be_named() -> None:
    found = parsed(
        tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}
    )
    assert chat_of(found).tool_choice == ToolChoice(mode="named", name="weather")


def test_obfuscation_is_refused_by_name() -> None:
    with pytest.raises(Unsupported) as caught:
        parsed(stream=True, stream_options={"include_obfuscation": True})
    assert caught.value.param == "stream_options.include_obfuscation"


def test_completions_share_the_fields_of_chat() -> None:
    shared = set(SAMPLING) | {"stop", "n", "max_tokens", "grammar", "response_format", "user"}
    assert shared <= set(CompletionRequest.__struct_fields__)
