"""What a grammar forces, the same format's reader understands: random walks, real tokens."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from shared.messages import Tool
from shared.requests import JsonSchema
from tests.workers.real_vocab import real_vocab
from tests.workers.text.cuts import meaning
from workers.engine.constraints import Compiler, TokenMask
from workers.engine.thinking import triggered_masks
from workers.models.vocab import Vocab
from workers.text.toolcalls.formats import FORMATS
from workers.text.toolcalls.grammar import forced_calls, opened_calls
from workers.text.toolcalls.harmony import HarmonyReader
from workers.text.toolcalls.reader import CallReader

WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 6},
            "unit": {"enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
)
TREE = Tool(
    name="plant",
    parameters={
        "$defs": {"kind": {"enum": ["oak", "elm"]}},
        "properties": {"kind": {"$ref": "#/$defs/kind"}},
        "required": ["kind"],
        "additionalProperties": False,
    },
)
NOTHING = Tool(name="ping", parameters={"type": "object", "additionalProperties": False})
TOOLS = (WEATHER, TREE, NOTHING)
SCHEMAS = {tool.name: tool.parameters for tool in TOOLS}


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """One for all tests."""
    return Compiler(real_vocab())


def walk(mask: TokenMask, vocab: Vocab, seed: int, *, ends: float = 0.5) -> str:
    """Random allowed text to an allowed end."""
    chance = random.Random(seed)
    out = b""
    for _ in range(1500):
        logits = np.zeros(vocab.n_vocab, np.float32)
        if mask.ended:
            return out.decode()
        mask.apply(logits)
        options = set(np.flatnonzero(np.isfinite(logits)).tolist())
        if options & vocab.eog and (chance.random() < ends or options <= vocab.eog):
            return out.decode()
        token = chance.choice(sorted(options - vocab.eog))
        mask.accept(token)
        out += vocab.piece(token)
    raise AssertionError("the walk never ends")


def calls_of(form: str, text: str) -> list[tuple[str, Any]]:
    """Names and arguments that the format's reader finds; fails on any text beside them."""
    names = frozenset(SCHEMAS)
    reader = HarmonyReader() if form == "harmony" else CallReader(FORMATS[form], names)
    found = meaning(reader, list(text))
    assert {kind for kind, _ in found} == {"call", "arguments", "called"}, (text, found)
    assert len(found) % 3 == 0
    return [(found[at][1], json.loads(found[at + 1][1])) for at in range(0, len(found), 3)]


@pytest.mark.parametrize("form", FORMATS)
def test_forced_calls_are_read_as_valid_calls(compiler: Compiler, form: str) -> None:
    for parallel in (False, True):
        grammar = forced_calls(FORMATS[form], TOOLS, parallel=parallel, special=lambda _: None)
        factory = compiler.compile(grammar, param="tools")
        for seed in range(4):
            calls = calls_of(form, walk(factory(0), compiler.vocab, seed))
            assert len(calls) == 1 or parallel
            for name, arguments in calls:
                jsonschema.validate(arguments, SCHEMAS[name])


def test_several_calls_happen_where_they_may(compiler: Compiler) -> None:
    grammar = forced_calls(FORMATS["hermes"], TOOLS, parallel=True, special=lambda _: None)
    factory = compiler.compile(grammar)
    counts = [
        len(calls_of("hermes", walk(factory(0), compiler.vocab, seed, ends=0.1)))
        for seed in range(3)
    ]
    assert max(counts) > 1


def test_marker_tokens_are_used_as_tokens(compiler: Compiler) -> None:
    vocab = compiler.vocab
    special = {"<tool_call>": vocab.single("<jupyter_code>")}
    grammar = forced_calls(FORMATS["hermes"], TOOLS, parallel=False, special=special.get)
    logits = np.zeros(vocab.n_vocab, np.float32)
    compiler.compile(grammar)(0).apply(logits)
    assert np.flatnonzero(np.isfinite(logits)).tolist() == [vocab.single("<jupyter_code>")]


OPENED = sorted(name for name, form in FORMATS.items() if form.openers and not form.bare)


@pytest.mark.parametrize("form", OPENED)
def test_a_call_once_begun_is_valid(compiler: Compiler, form: str) -> None:
    found = FORMATS[form]
    grammar = opened_calls(found, TOOLS, parallel=True, special=lambda _: None)
    factory = triggered_masks(compiler.vocab, found.openers, compiler.compile(grammar))
    for seed in range(3):
        mask, text = factory(0), "Let me see. " + found.openers[0]
        for token in compiler.vocab.tokenize(text):
            mask.accept(token)
        lead = "<|channel|>commentary " if form == "harmony" else ""
        calls = calls_of(form, lead + found.openers[0] + walk(mask, compiler.vocab, seed))
        for name, arguments in calls:
            jsonschema.validate(arguments, SCHEMAS[name])


def test_words_before_a_call_are_free(compiler: Compiler) -> None:
    grammar = opened_calls(FORMATS["hermes"], TOOLS, parallel=True, special=lambda _: None)
    mask = triggered_masks(compiler.vocab, ("<tool_call>",), compiler.compile(grammar))(0)
    logits = np.zeros(compiler.vocab.n_vocab, np.float32)
    mask.apply(logits)
    assert np.isfinite(logits).all()
    assert not mask.ended


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        {"type": "object", "properties": {"n": {"const": 1}}, "additionalProperties": False},
    ],
)
def test_an_answer_or_calls(compiler: Compiler, schema: dict[str, Any]) -> None:
    calls = forced_calls(FORMATS["generic"], TOOLS, parallel=False, special=lambda _: None)
    factory = compiler.either((calls, "tools"), (JsonSchema(schema=schema), "response_format"))
    kinds = set()
    for seed in range(12):
        text = walk(factory(0), compiler.vocab, seed)
        found = meaning(CallReader(FORMATS["generic"], frozenset(SCHEMAS)), list(text))
        kinds.add(found[0][0])
        if found[0][0] == "text":
            jsonschema.validate(json.loads(found[0][1]), schema)
    assert kinds == {"text", "call"}
