"""Every family's tool calls, cut everywhere."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.text.cuts import Meaning, meaning, same_at_every_cut
from workers.text.toolcalls.formats import FORMATS
from workers.text.toolcalls.harmony import HarmonyReader
from workers.text.toolcalls.reader import CallReader

NAMES = frozenset({"get_weather", "add"})
SCHEMAS = {"note": {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}}}}
PARIS = '{"city": "Paris, \\"FR\\" {x}"}'
SUM = '{"a": 1, "b": [2, {"c": null}]}'


def read(form: str, text: str) -> list[Meaning]:
    """What all cuts of `text` mean."""
    return same_at_every_cut(lambda: CallReader(FORMATS[form], NAMES, SCHEMAS), text)


def called(*calls: tuple[str, str]) -> list[Meaning]:
    """Calls as meanings."""
    out: list[Meaning] = []
    for name, arguments in calls:
        out += [("call", name), ("arguments", arguments), ("called", "")]
    return out


WEATHER = ("get_weather", PARIS)
ADD = ("add", SUM)
JSON_WEATHER = f'{{"name": "get_weather", "arguments": {PARIS}}}'
JSON_ADD = f'{{"arguments": {SUM}, "name": "add"}}'
SEP = "<｜tool▁sep｜>"
CALL, CALLED = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
CALLS, ALL_CALLED = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"

CASES: dict[str, tuple[str, str, list[Meaning]]] = {
    "hermes": ("hermes", f"<tool_call>\n{JSON_WEATHER}\n</tool_call>", called(WEATHER)),
    "hermes, two and prose": (
        "hermes",
        f"Let me see.\n\n<tool_call>\n{JSON_WEATHER}\n</tool_call>\n<tool_call>{JSON_ADD}"
        "</tool_call>\n",
        [("text", "Let me see."), *called(WEATHER, ADD)],
    ),
    "hermes, unclosed": ("hermes", f"<tool_call>{JSON_WEATHER}", called(WEATHER)),
    "hermes, no JSON": (
        "hermes",
        "Use <tool_call> tags. {x}",
        [("text", "Use <tool_call> tags. {x}")],
    ),
    "hermes, no name": (
        "hermes",
        '<tool_call>{"a": 1}</tool_call>',
        [("text", '<tool_call>{"a": 1}</tool_call>')],
    ),
    "hermes, half a tag": ("hermes", "a <tool_ca", [("text", "a <tool_ca")]),
    "hermes, arguments as text": (
        "hermes",
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        called(("add", '{"a": 1}')),
    ),
    "hermes, no arguments": (
        "hermes",
        '<tool_call>{"name": "add"}</tool_call>',
        called(("add", "{}")),
    ),
    "llama3 bare": (
        "llama3",
        f'{{"name": "get_weather", "parameters": {PARIS}}}',
        called(WEATHER),
    ),
    "llama3 two": (
        "llama3",
        f'{{"type": "function", "name": "get_weather", "parameters": {PARIS}}}; {JSON_ADD}',
        called(WEATHER, ADD),
    ),
    "llama3 tag": (
        "llama3",
        f'<|python_tag|>{{"name": "add", "parameters": {SUM}}}<|eom_id|>',
        called(ADD),
    ),
    "llama3 builtin": (
        "llama3",
        '<|python_tag|>brave_search.call(query="x y")',
        called(("brave_search", '{"query": "x y"}')),
    ),
    "llama3 JSON answer": (
        "llama3",
        '{"answer": {"name": "add"}}',
        [("text", '{"answer": {"name": "add"}}')],
    ),
    "llama3 unknown tool": (
        "llama3",
        '{"name": "Bob", "parameters": {}} is who',
        [("text", '{"name": "Bob", "parameters": {}} is who')],
    ),
    "mistral list": (
        "mistral",
        f"[TOOL_CALLS] [{JSON_WEATHER}, {JSON_ADD}]",
        called(WEATHER, ADD),
    ),
    "mistral list with ids": (
        "mistral",
        f'[TOOL_CALLS][{{"name": "add", "arguments": {SUM}, "id": "abcdefghi"}}]',
        called(ADD),
    ),
    "mistral args": (
        "mistral_args",
        f"Sure.[TOOL_CALLS]get_weather[ARGS]{PARIS}[TOOL_CALLS]add[CALL_ID]abc123def[ARGS]{SUM}",
        [("text", "Sure."), *called(WEATHER, ADD)],
    ),
    "mistral no args marker": ("mistral", f"[TOOL_CALLS]add{SUM}", called(ADD)),
    "deepseek": (
        "deepseek",
        f"{CALLS}{CALL}function{SEP}get_weather\n```json\n{PARIS}\n```{CALLED}\n"
        f"{CALL}function{SEP}add\n```json\n{SUM}\n```{CALLED}{ALL_CALLED}",
        called(WEATHER, ADD),
    ),
    "deepseek 3.1": (
        "deepseek_v31",
        f"I look.{CALLS}{CALL}get_weather{SEP}{PARIS}{CALLED}"
        f"{CALL}add{SEP}{SUM}{CALLED}{ALL_CALLED}",
        [("text", "I look."), *called(WEATHER, ADD)],
    ),
    "kimi": (
        "kimi",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0"
        f"<|tool_call_argument_begin|>{SUM}<|tool_call_end|><|tool_calls_section_end|>",
        called(ADD),
    ),
    "command-r7b": (
        "command_r7b",
        f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "add", "parameters": {SUM}}}\n'
        "]<|END_ACTION|>",
        called(ADD),
    ),
    "command-r7b answer": (
        "command_r7b",
        "<|START_RESPONSE|>Hello there<|END_RESPONSE|>",
        [("text", "Hello there")],
    ),
    "command-r": (
        "command_r",
        f'Action: ```json\n[\n  {{"tool_name": "add", "parameters": {SUM}}}\n]\n```',
        called(ADD),
    ),
    "granite": ("tool_call_list", f"<|tool_call|>[{JSON_WEATHER}]", called(WEATHER)),
    "nemotron": ("nemotron", f"<TOOLCALL>[{JSON_WEATHER}]</TOOLCALL>", called(WEATHER)),
    "functionary": ("functionary", f"<function=add>{SUM}</function>", called(ADD)),
    "generic": ("generic", JSON_WEATHER, called(WEATHER)),
    "generic list": ("generic", f"[{JSON_WEATHER},\n {JSON_ADD}]", called(WEATHER, ADD)),
    "generic fence": ("generic", f"```json\n{JSON_WEATHER}\n```", called(WEATHER)),
    "generic nested": (
        "generic",
        f'{{"type": "function", "function": {JSON_WEATHER}}}',
        called(WEATHER),
    ),
    "generic prose": ("generic", "  Hello {you}\n", [("text", "  Hello {you}\n")]),
    "generic other JSON": ("generic", '[{"a": 1}, 2]', [("text", '[{"a": 1}, 2]')]),
    "generic code": ("generic", "```json\n[1]\n```", [("text", "```json\n[1]\n```")]),
    "pythonic": (
        "pythonic",
        "[get_weather(city='Paris'), add(a=1, b=[true, None])]",
        called(("get_weather", '{"city": "Paris"}'), ("add", '{"a": 1, "b": [true, null]}')),
    ),
    "pythonic marked": (
        "pythonic",
        '<|tool_call_start|>[add(a={"x": "]"})]<|tool_call_end|>',
        called(("add", '{"a": {"x": "]"}}')),
    ),
    "pythonic prose": ("pythonic", "[1] is a footnote", [("text", "[1] is a footnote")]),
    "pythonic other": ("pythonic", "[open('x')]", [("text", "[open('x')]")]),
    "qwen xml": (
        "qwen_xml",
        "Sure.\n<tool_call>\n<function=note>\n<parameter=text>\n1\n2\n</parameter>\n"
        "<parameter=n>\n3\n</parameter>\n<parameter=o>\n[true]\n</parameter>\n</function>\n"
        "</tool_call>\n<tool_call>\n<function=ping>\n</function>\n</tool_call>",
        [
            ("text", "Sure."),
            *called(("note", '{"text": "1\\n2", "n": 3, "o": [true]}'), ("ping", "{}")),
        ],
    ),
    "qwen xml as JSON": ("qwen_xml", f"<tool_call>{JSON_WEATHER}</tool_call>", called(WEATHER)),
    "qwen xml, unfinished": (
        "qwen_xml",
        "<tool_call>\n<function=add>\n<param",
        [("text", "<tool_call>\n<function=add>\n<param")],
    ),
    "empty": ("hermes", "", []),
}


@pytest.mark.parametrize("case", CASES)
def test_calls_are_found_wherever_the_pieces_break(case: str) -> None:
    form, text, wanted = CASES[case]
    if text:
        assert read(form, text) == wanted
    else:
        assert meaning(CallReader(FORMATS[form], NAMES), []) == wanted


@pytest.mark.parametrize(
    ("form", "start"),
    [("pythonic", "[add(a='"), ("qwen_xml", "<tool_call><function=add><parameter=a>")],
)
def test_a_whole_call_is_not_held_for_ever(form: str, start: str) -> None:
    reader = CallReader(FORMATS[form], NAMES)
    text = start + "x" * 20_000
    held = [len(reader.feed(letter, at)) == 0 for at, letter in enumerate(text, 1)]
    assert not all(held)


HARMONY: dict[str, tuple[str, list[Meaning]]] = {
    "answer": (
        "<|channel|>analysis<|message|>I think.<|end|><|start|>assistant"
        "<|channel|>final<|message|>Hello",
        [("reasoning", "I think."), ("text", "Hello")],
    ),
    "call": (
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary "
        f"to=functions.add <|constrain|>json<|message|>{SUM}",
        [("reasoning", "Hm"), *called(ADD)],
    ),
    "call, recipient first": (
        f"<|start|>assistant to=functions.add<|channel|>commentary json<|message|>{SUM}<|call|>",
        called(ADD),
    ),
    "preamble": (
        "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant<|channel|>"
        f"commentary to=functions.add<|message|>{SUM}<|call|>",
        [("text", "I will look."), *called(ADD)],
    ),
    "plain": ("Just text", [("text", "Just text")]),
    "unfinished": ("<|channel|>analysis<|message|>abc<|e", [("reasoning", "abc<|e")]),
}


@pytest.mark.parametrize("case", HARMONY)
def test_channels_are_told_apart_wherever_the_pieces_break(case: str) -> None:
    text, wanted = HARMONY[case]
    assert same_at_every_cut(HarmonyReader, text) == wanted


BITS = (
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", '{"name": "add", "arguments": {}}',
    "{", "}", "[", "]", '"', "\\", ",", ";", " ", "\n", "add", "x", "```json", "```", '"name"', ":",
    "<|python_tag|>", "<", "<function=add>", "<parameter=a>", "</parameter>", "</function>",
    "get_weather(", "a=1)",
)  # fmt: skip


@given(
    form=st.sampled_from(sorted(FORMATS)),
    bits=st.lists(st.sampled_from(BITS), max_size=12),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_any_text_means_the_same_however_it_is_cut(
    form: str, bits: list[str], cuts: list[int]
) -> None:
    text = "".join(bits)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places) if a < b]
    whole = meaning(CallReader(FORMATS[form], NAMES), [text])
    assert meaning(CallReader(FORMATS[form], NAMES), pieces) == whole
    assert meaning(CallReader(FORMATS[form], NAMES), list(text)) == whole


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=4), kids),
            max_leaves=8,
        ),
    )
)
def test_arguments_come_through_whatever_is_in_them(arguments: dict[str, Any]) -> None:
    text = json.dumps(arguments, ensure_ascii=False)
    call = f'<tool_call>{{"name": "add", "arguments": {text}}}</tool_call>'
    found = meaning(CallReader(FORMATS["hermes"], NAMES), list(call))
    assert found == called(("add", text))
