"""Plans of whole requests on the default model's vocabulary: tokens, events, masks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from shared.errors import ContextTooLong, RequestError, Unsupported
from shared.events import ChoiceEnd, Event, ReasoningDelta, TextDelta, ToolCallDelta
from shared.messages import Message, Text, Tool
from shared.requests import (
    Chat,
    Generate,
    Grammar,
    JsonObject,
    Prompt,
    Regex,
    Thinking,
    ToolChoice,
)
from tests.workers.prompt.templates import HERMES, THINKER
from tests.workers.real_vocab import real_vocab
from workers.models.gguf import ModelFacts
from workers.models.vocab import Fim, Vocab
from workers.prompt.model_text import ModelText
from workers.prompt.plan import Prepared, prepare

HI = (Message(role="user", content=(Text(text="hi"),)),)
ADD = Tool(
    name="add",
    parameters={
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["a"],
        "additionalProperties": False,
    },
)


def model(template: str = "") -> ModelText:
    """The default model's vocabulary under a template."""
    facts = ModelFacts(
        path="", size_bytes=0, architecture="llama", chat_template=template, context_length=64
    )
    return ModelText(real_vocab(), facts)


def plan(asked: Chat | Prompt, template: str = "", **rest: Any) -> Prepared:
    """A prepared request."""
    request = Generate(id="j", model="m", input=asked, **rest)
    return prepare(request, model(template), now_s=0, context=1000)


def events(prepared: Prepared, text: str) -> tuple[list[Event], ChoiceEnd | None]:
    """Events of a text the model might say."""
    pipeline = prepared.pipeline(0)
    vocab = real_vocab()
    out: list[Event] = []
    for token in vocab.tokenize(text, parse_special=True):
        out += pipeline.feed(vocab.piece(token))
    out += pipeline.flush()
    return out, pipeline.end


def said(found: list[Event], kind: type) -> str:
    """The joined text of one kind."""
    return "".join(getattr(e, "text", "") or getattr(e, "arguments", "") for e in found
                   if isinstance(e, kind))  # fmt: skip


def greedy(prepared: Prepared, *, most: int = 400) -> str:
    """What a model without any opinion says under the mask: always the last token."""
    assert prepared.mask is not None
    mask = prepared.mask(0)
    vocab = real_vocab()
    tokens: list[int] = []
    while not mask.ended and len(tokens) < most:
        logits = np.arange(vocab.n_vocab, dtype=np.float32)
        mask.apply(logits)
        token = int(logits.argmax())
        if token in vocab.eog:
            break
        mask.accept(token)
        tokens.append(token)
    return vocab.detokenize(tokens).decode("utf-8", "replace")


def test_a_chat_is_tokens_with_markers() -> None:
    prepared = plan(Chat(messages=HI))
    text = real_vocab().detokenize(prepared.prompt).decode()
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert prepared.prompt[0] == real_vocab().bos
    assert prepared.mask is None


def test_stops_and_hidden_markers() -> None:
    prepared = plan(Chat(messages=HI), stop=("END",))
    found, end = events(prepared, "one<filename> two END three")
    assert said(found, TextDelta) == "one two "
    assert end == ChoiceEnd(stop="END")


def test_a_marker_may_be_a_stop_string() -> None:
    found, end = events(plan(Chat(messages=HI), stop=("<filename>",)), "one<filename>two")
    assert said(found, TextDelta) == "one"
    assert end == ChoiceEnd(stop="<filename>")


def test_a_raw_prompt_and_its_echo() -> None:
    prepared = plan(Prompt(text="Once upon", echo=True))
    assert prepared.prompt == real_vocab().tokenize("Once upon")
    found, _ = events(prepared, " a time")
    assert said(found, TextDelta) == "Once upon a time"
    assert plan(Prompt(tokens=(5, 6))).prompt == (5, 6)


RAW: dict[str, tuple[Prompt, dict[str, Any], type[Exception]]] = {
    "token": (Prompt(tokens=(49152,)), {}, RequestError),
    "no tokens": (Prompt(tokens=()), {}, RequestError),
    "suffix": (Prompt(text="a", suffix="b"), {}, Unsupported),
    "echo": (Prompt(text="a", echo=True), {"logprobs": 1}, Unsupported),
    "long": (Prompt(tokens=(5,) * 1000), {}, ContextTooLong),
    "very long": (Prompt(text="a" * 10_000_000), {}, ContextTooLong),
    "stops": (Prompt(text="a"), {"stop": ("x",) * 33}, RequestError),
    "long stop": (Prompt(text="a"), {"stop": ("x" * 257,)}, RequestError),
    "grammar": (Prompt(text="a"), {"constraint": Regex(pattern="(")}, RequestError),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_prompts_that_cannot_be(name: str) -> None:
    asked, rest, kind = RAW[name]
    with pytest.raises(kind):
        plan(asked, **rest)


def test_fill_in_the_middle_where_there_are_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    vocab = real_vocab()
    monkeypatch.setattr(vocab, "fim", Fim(prefix=10, suffix=11, middle=12))
    prepared = plan(Prompt(text="def f(", suffix="return x"))
    before, after = vocab.tokenize("def f("), vocab.tokenize("return x")
    assert prepared.prompt == (10, *before, 11, *after, 12)


def test_calls_of_a_template_that_knows_tools() -> None:
    prepared = plan(Chat(messages=HI, tools=(ADD,)), HERMES)
    found, end = events(prepared, 'Well.<tool_call>{"name": "add", "arguments": {"a": 1}}')
    assert said(found, TextDelta) == "Well."
    assert said(found, ToolCallDelta) == '{"a": 1}'
    assert end == ChoiceEnd(reason="tool_calls")


@pytest.mark.parametrize("template", ["", HERMES, THINKER])
@pytest.mark.parametrize("mode", ["required", "named"])
def test_a_forced_call_is_valid_whatever_the_model_thinks(template: str, mode: Any) -> None:
    choice = ToolChoice(mode=mode, name="add" if mode == "named" else None, parallel=False)
    thinking = Thinking(enabled=False) if template else Thinking()
    asked = Chat(messages=HI, tools=(ADD,), tool_choice=choice, thinking=thinking)
    prepared = plan(asked, template)
    found, end = events(prepared, greedy(prepared))
    assert 0 <= json.loads(said(found, ToolCallDelta))["a"] <= 99
    assert said(found, TextDelta) == ""
    assert end == ChoiceEnd(reason="tool_calls")


def allowed_after(prepared: Prepared, text: str, piece: str) -> bool:
    """Whether the mask lets `piece` (one token) follow `text`."""
    assert prepared.mask is not None
    mask = prepared.mask(0)
    vocab = real_vocab()
    for token in vocab.tokenize(text):
        mask.accept(token)
    logits = np.zeros(vocab.n_vocab, np.float32)
    mask.apply(logits)
    (token,) = vocab.tokenize(piece)
    return bool(np.isfinite(logits[token]))


@pytest.mark.parametrize(
    ("template", "call"),
    [
        ("", '{"name": "add", "arguments": {"a'),
        (HERMES, 'So <tool_call>\n{"name": "add", "arguments": {"a'),
    ],
)
def test_strict_tools_are_held_to_their_schema(template: str, call: str) -> None:
    strict = Tool(name="add", parameters=ADD.parameters, strict=True)
    thinking = Thinking(enabled=False) if template else Thinking()
    prepared = plan(Chat(messages=HI, tools=(strict,), thinking=thinking), template)
    assert allowed_after(prepared, "Well", "!")
    assert allowed_after(prepared, call, '":')
    assert not allowed_after(prepared, call, "b")
    assert plan(Chat(messages=HI, tools=(ADD,)), template).mask is None


def test_json_after_bounded_reasoning() -> None:
    asked = Chat(messages=HI, thinking=Thinking(budget=5))
    prepared = plan(asked, THINKER, constraint=Regex(pattern=r"\{\}"))
    found, _ = events(prepared, greedy(prepared))
    assert said(found, TextDelta) == "{}"
    assert said(found, ReasoningDelta) != ""


def test_reasoning_switched_off_leaves_only_the_constraint() -> None:
    asked = Chat(messages=HI, thinking=Thinking(enabled=False))
    prepared = plan(asked, THINKER, constraint=Regex(pattern="[ab]"))
    assert greedy(prepared) in ("a", "b")


def test_json_or_a_call() -> None:
    prepared = plan(Chat(messages=HI, tools=(ADD,)), constraint=JsonObject())
    assert prepared.mask is not None
    for text in ('{"name": "add", "arguments": {"a": 7}}', '{"x": [1]}'):
        mask = prepared.mask(0)
        for token in real_vocab().tokenize(text):
            mask.accept(token)
        assert mask.ended
        assert mask.failed == ""


def test_a_grammar_or_a_call() -> None:
    prepared = plan(Chat(messages=HI, tools=(ADD,)), constraint=Grammar(text='start: "maybe"'))
    assert prepared.mask is not None
    mask = prepared.mask(0)
    for token in real_vocab().tokenize("maybe"):
        mask.accept(token)
    assert (mask.ended, mask.failed) == (True, "")


def test_a_tool_schema_that_cannot_be_forced_is_named() -> None:
    odd = Tool(name="odd", parameters={"type": "object", "not": {}})
    choice = ToolChoice(mode="required")
    with pytest.raises(RequestError, match='"not"') as caught:
        plan(Chat(messages=HI, tools=(odd,), tool_choice=choice))
    assert caught.value.param == "tools"


def test_bos_comes_once() -> None:
    vocab: Vocab = real_vocab()
    prepared = plan(Chat(messages=HI), "{{ bos_token }}{{ messages[0].content }}")
    assert prepared.prompt == (vocab.bos, *vocab.tokenize("hi"))
