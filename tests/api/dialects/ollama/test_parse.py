"""Ollama's requests as canonical ones; what is not honoured is refused by name."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from api import body
from api.dialects.ollama import parse, types
from shared.errors import RequestError, Unsupported
from shared.messages import Image, Message, Text, Tool, ToolCall
from shared.requests import (
    Chat,
    Embed,
    Generate,
    JsonObject,
    JsonSchema,
    Prompt,
    Sampling,
    Thinking,
)

PNG, JPEG, GIF = b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"GIF89a"
HI = [{"role": "user", "content": "hi"}]
SAMPLES: dict[str, Any] = {
    "temperature": 0.1,
    "dynatemp_range": 0.2,
    "dynatemp_exponent": 1.5,
    "top_k": 7,
    "top_p": 0.5,
    "min_p": 0.2,
    "typical_p": 0.9,
    "top_n_sigma": 1.0,
    "xtc_probability": 0.3,
    "xtc_threshold": 0.2,
    "dry_multiplier": 0.8,
    "dry_base": 2.0,
    "dry_allowed_length": 3,
    "dry_penalty_last_n": 10,
    "dry_sequence_breakers": ("x",),
    "mirostat": 2,
    "mirostat_tau": 4.0,
    "mirostat_eta": 0.2,
    "repeat_last_n": 32,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "seed": 3,
}


def encoded(image: bytes) -> str:
    return b64encode(image).decode()


def wire(kind: type[Any], **given: Any) -> Any:
    asked = {"model": "smollm2", **given}
    return body.parse(msgspec.json.encode(asked), msgspec.json.Decoder(kind))


def chat(messages: Any = None, **given: Any) -> Generate:
    return parse.chat(wire(types.Chat, messages=messages or HI, **given), job="j")


def said(messages: Any) -> tuple[Message, ...]:
    asked = chat(messages).input
    assert isinstance(asked, Chat)
    return asked.messages


def generate(prompt: str = "hi", **given: Any) -> Generate:
    return parse.generate(wire(types.Generate, prompt=prompt, **given), job="j")


def test_the_least_chat() -> None:
    message = Message(role="user", content=(Text(text="hi"),))
    assert chat() == Generate(id="j", model="ai/smollm2:latest", input=Chat(messages=(message,)))


def test_every_sampling_field_is_an_option() -> None:
    assert set(parse.SAMPLED) == set(Sampling.__struct_fields__)
    assert chat(options=SAMPLES).sampling == Sampling(**SAMPLES)
    assert chat(options={"logit_bias": {"5": -2}}).sampling.logit_bias == {5: -2.0}


@pytest.mark.parametrize("seed", [-1, None])
def test_a_seed_of_chance_is_none(seed: int | None) -> None:
    assert chat(options={"seed": seed}).sampling.seed is None


@pytest.mark.parametrize(("given", "top_k"), [(-1, 0), (0, 0), (5, 5)])
def test_top_k(given: int, top_k: int) -> None:
    assert chat(options={"top_k": given}).sampling.top_k == top_k


@pytest.mark.parametrize(("given", "limit"), [(5, 5), (-1, None), (-2, None), (0, None)])
def test_num_predict(given: int, limit: int | None) -> None:
    assert chat(options={"num_predict": given}).max_tokens == limit


@pytest.mark.parametrize(("given", "stops"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([""], ())])
def test_stop(given: Any, stops: tuple[str, ...]) -> None:
    assert chat(options={"stop": given}).stop == stops


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        (None, None),
        ("", None),
        ("json", JsonObject()),
        ({"type": "object"}, JsonSchema(schema={"type": "object"})),
    ],
)
def test_format(form: Any, wanted: Any) -> None:
    assert chat(format=form).constraint == wanted
    assert generate(format=form).constraint == wanted


@pytest.mark.parametrize(
    ("think", "wanted"),
    [
        (None, Thinking()),
        ("", Thinking()),
        (True, Thinking(enabled=True)),
        (False, Thinking(enabled=False)),
        ("low", Thinking(enabled=True, effort="low")),
        ("max", Thinking(enabled=True, effort="high")),
    ],
)
def test_think(think: Any, wanted: Thinking) -> None:
    for asked in (chat(think=think).input, generate(think=think).input):
        assert isinstance(asked, Chat)
        assert asked.thinking == wanted


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, None),
        (0, 0.0),
        (90, 90.0),
        (-1, -1.0),
        ("0", 0.0),
        ("-1", -1.0),
        ("-1m", -1.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("30s", 30.0),
        ("24h", 86400.0),
        ("1h30m", 5400.0),
        ("5m0s", 300.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
    ],
)
def test_keep_alive(given: Any, seconds: float | None) -> None:
    assert chat(keep_alive=given).keep_alive_s == pytest.approx(seconds)


@pytest.mark.parametrize("given", ["", "abc", "5x", "m", "-", "1h-3m"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(RequestError, match="keep_alive"):
        chat(keep_alive=given)


def test_tools_and_their_results() -> None:
    calls = [
        {"function": {"name": "weather", "arguments": {"city": "Oslo"}}},
        {"id": "mine", "function": {"name": "clock", "arguments": {}}},
        {"function": {"name": "weather", "arguments": {"city": "Rome"}}},
    ]
    messages = said(
        [
            *HI,
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls},
            {"role": "tool", "content": "noon", "tool_call_id": "mine"},
            {"role": "tool", "content": "rain", "tool_name": "weather"},
            {"role": "tool", "content": "sun"},
        ]
    )
    assert messages[1] == Message(
        role="assistant",
        reasoning="hm",
        tool_calls=(
            ToolCall(id="call_0", name="weather", arguments='{"city":"Oslo"}'),
            ToolCall(id="mine", name="clock", arguments="{}"),
            ToolCall(id="call_2", name="weather", arguments='{"city":"Rome"}'),
        ),
    )
    assert [(m.text, m.tool_call_id, m.name) for m in messages[2:]] == [
        ("noon", "mine", "clock"),
        ("rain", "call_0", "weather"),
        ("sun", "call_2", "weather"),
    ]


def test_a_tool() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    asked = chat(tools=[{"type": "function", "function": function}]).input
    assert isinstance(asked, Chat)
    assert asked.tools == (Tool(name="f", description="d", parameters={"type": "object"}),)


def test_a_last_assistant_message_is_continued() -> None:
    asked = chat([*HI, {"role": "assistant", "content": "The"}]).input
    assert isinstance(asked, Chat)
    assert asked.continue_final


@pytest.mark.parametrize(
    ("sent", "image"),
    [
        (encoded(PNG), Image(data=PNG, media_type="image/png")),
        (encoded(JPEG), Image(data=JPEG, media_type="image/jpeg")),
        (encoded(GIF), Image(data=GIF, media_type="image/gif")),
        (encoded(b"what"), Image(data=b"what", media_type="image/jpeg")),
        (f" {encoded(PNG)}\n", Image(data=PNG, media_type="image/png")),
        (f"data:image/png;base64,{encoded(PNG)}", Image(data=PNG, media_type="image/png")),
    ],
)
def test_images(sent: str, image: Image) -> None:
    (message,) = said([{"role": "user", "content": "see", "images": [sent, sent]}])
    assert message.content == (Text(text="see"), image, image)
    asked = generate("see", images=[sent]).input
    assert isinstance(asked, Chat)
    assert asked.messages[0].content == (Text(text="see"), image)


def test_generate_is_a_question_to_the_template() -> None:
    assert generate("hi", system="be kind").input == Chat(
        messages=(
            Message(role="system", content=(Text(text="be kind"),)),
            Message(role="user", content=(Text(text="hi"),)),
        )
    )


def test_raw_and_suffix_are_bare_prompts() -> None:
    assert generate("hi", raw=True).input == Prompt(text="hi")
    assert generate("def f(", suffix="return x").input == Prompt(text="def f(", suffix="return x")


@pytest.mark.parametrize(
    ("given", "wanted"), [({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 3}, 3)]
)
def test_logprobs(given: dict[str, Any], wanted: int) -> None:
    assert chat(**given).logprobs == wanted
    assert chat().logprobs is None


def test_embed() -> None:
    asked = parse.embed(
        wire(types.Embed, input=["a", "b"], dimensions=8, truncate=False, keep_alive=3), job="j"
    )
    assert asked == Embed(
        id="j", model="ai/smollm2:latest", inputs=("a", "b"), dimensions=8, keep_alive_s=3.0
    )
    assert parse.embed(wire(types.Embed, input="a"), job="j").truncate
    older = parse.embeddings(wire(types.Embeddings, prompt="a"), job="j")
    assert (older.inputs, older.normalize) == (("a",), False)


@pytest.mark.parametrize(
    ("kind", "given", "intent"),
    [
        (types.Chat, {"messages": HI}, "run"),
        (types.Chat, {"messages": HI, "keep_alive": 0}, "run"),
        (types.Chat, {}, "load"),
        (types.Chat, {"messages": [], "keep_alive": "0s"}, "unload"),
        (types.Generate, {"prompt": "a"}, "run"),
        (types.Generate, {"images": ["x"]}, "run"),
        (types.Generate, {}, "load"),
        (types.Generate, {"prompt": "", "keep_alive": "5m"}, "load"),
        (types.Generate, {"prompt": "", "keep_alive": 0}, "unload"),
    ],
)
def test_an_empty_prompt_moves_the_model(kind: Any, given: dict[str, Any], intent: str) -> None:
    assert parse.intent_of(wire(kind, **given)) == intent


def test_loading_keeps_the_model_as_long_as_asked() -> None:
    asked = parse.load(wire(types.Generate, keep_alive="1m"), job="j")
    assert (asked.input, asked.keep_alive_s) == (Prompt(text=""), 60.0)


def test_name_wins_over_model() -> None:
    assert chat(name="other").model == "ai/other:latest"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"options": {"nonsense": 1}}, "options.nonsense"),
        ({"options": {"tfs_z": 0.5}}, "options.tfs_z"),
        ({"options": {"penalize_newline": False}}, "options.penalize_newline"),
        ({"options": {"vocab_only": True}}, "options.vocab_only"),
        ({"truncate": True}, "truncate"),
        ({"shift": True}, "shift"),
        ({"tools": [{"function": {"name": "f"}, "items": [1]}]}, "tools[0].items"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        chat(**given)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize("name", ["system", "images", "think"])
@pytest.mark.parametrize("bare", [{"raw": True}, {"suffix": "x"}])
def test_a_bare_prompt_has_no_place_for_more(name: str, bare: dict[str, Any]) -> None:
    given = {"system": "s", "images": [encoded(PNG)], "think": True}[name]
    with pytest.raises(Unsupported, match=name):
        generate(**bare, **{name: given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": " "}, "model is required"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"options": {"logit_bias": {"x": 1}}}, "logit_bias"),
        ({"format": "yaml"}, "format"),
        ({"think": "hard"}, "think"),
        ({"messages": [{"role": "user", "images": ["%%"]}]}, "base64"),
        ({"messages": [{"role": "user", "images": [""]}]}, "no bytes"),
        ({"messages": [{"role": "system", "images": ["aGk="]}]}, "images"),
        ({"messages": [{"role": "user", "thinking": "hm"}]}, "thinking"),
        ({"messages": [{"role": "user", "tool_name": "f"}]}, "tool"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": {"name": "f"}}]}]}, "calls"),
        ({"messages": [{"role": "boss", "content": "a"}]}, "boss"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        chat(**given)
