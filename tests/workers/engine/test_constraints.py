"""Token masks on the default model's real vocabulary: random allowed walks give valid output."""

from __future__ import annotations

import json
import random
import re
import threading
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest

from shared.errors import RequestError
from shared.requests import Constraint, Grammar, JsonObject, JsonSchema, Regex
from tests.workers.real_vocab import real_vocab
from workers.engine.constraints import Compiler, TokenMask
from workers.models.vocab import Vocab


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """One for all tests: its tokenizer takes 0.3 s."""
    return Compiler(real_vocab())


def allowed(mask: TokenMask, n_vocab: int) -> frozenset[int]:
    """The tokens a mask lets through."""
    logits = np.zeros(n_vocab, np.float32)
    mask.apply(logits)
    return frozenset(np.flatnonzero(np.isfinite(logits)).tolist())


@cache
def closing(vocab: Vocab) -> frozenset[int]:
    """Tokens that only close JSON."""
    return frozenset(t for t in range(vocab.n_vocab) if re.fullmatch(rb'["\]},]+', vocab.piece(t)))


def walk(mask: TokenMask, vocab: Vocab, seed: int) -> list[int]:
    """Random allowed tokens to the end, with a lean to what closes things."""
    chance = random.Random(seed)
    tokens: list[int] = []
    while not mask.ended and len(tokens) < 2000:
        options = allowed(mask, vocab.n_vocab)
        more = options - vocab.eog
        if not more or (options & vocab.eog and chance.random() < 0.3):
            return tokens
        short = more & closing(vocab)
        lean = short if short and (len(tokens) > 30 or chance.random() < 0.4) else more
        token = chance.choice(sorted(lean))
        mask.accept(token)
        tokens.append(token)
    assert mask.ended
    return tokens


SCHEMAS: dict[str, Any] = {
    "any object": {"type": "object"},
    "flat": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}},
        "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {"p": {"type": "object", "properties": {"q": {"type": "number"}}}},
        "required": ["p"],
        "additionalProperties": False,
    },
    "array": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "string"}, {"type": "integer"}],
        "items": False,
        "minItems": 2,
    },
    "enum": {"enum": ["red", "green", 3, None]},
    "const": {"const": {"a": [1, 2]}},
    "pattern": {"type": "string", "pattern": "^[a-z]{2,5}-[0-9]+$"},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 5},
    "range": {"type": "integer", "minimum": -3, "maximum": 120},
    "number range": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "date": {"type": "string", "format": "date"},
    "date-time": {"type": "string", "format": "date-time"},
    "uuid": {"type": "string", "format": "uuid"},
    "any of": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "boolean"}}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    "refs": {
        "$defs": {"node": {"type": "object", "properties": {"v": {"type": "integer"}}}},
        "type": "array",
        "items": {"$ref": "#/$defs/node"},
        "maxItems": 3,
    },
    "recursive": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "required": ["kids"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/tree",
    },
    "map": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "maxProperties": 3,
    },
    "types": {"type": ["string", "null", "integer"]},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_random_walks_validate_against_the_schema(compiler: Compiler, name: str) -> None:
    factory = compiler.compile(JsonSchema(schema=SCHEMAS[name]))
    for seed in range(3):
        text = compiler.vocab.detokenize(walk(factory(0), compiler.vocab, seed)).decode()
        jsonschema.validate(json.loads(text), SCHEMAS[name])


def test_json_object_is_an_object(compiler: Compiler) -> None:
    factory = compiler.compile(JsonObject())
    for seed in range(5):
        text = compiler.vocab.detokenize(walk(factory(0), compiler.vocab, seed)).decode()
        assert isinstance(json.loads(text), dict)


PATTERNS = {
    "regex": (Regex(pattern="[a-c]{3,6}(-[0-9]{2})?"), "[a-c]{3,6}(-[0-9]{2})?"),
    "lark": (Grammar(text='start: "yes" | "no" WORD\nWORD: /[a-z]{1,4}/'), "yes|no[a-z]{1,4}"),
    "gbnf": (Grammar(text='root ::= "x" [0-9]+ ("," [0-9]+)?', syntax="gbnf"), r"x\d+(,\d+)?"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_random_walks_match_the_grammar(compiler: Compiler, name: str) -> None:
    constraint, pattern = PATTERNS[name]
    factory = compiler.compile(constraint)
    for seed in range(5):
        text = compiler.vocab.detokenize(walk(factory(0), compiler.vocab, seed)).decode()
        assert re.fullmatch(pattern, text), text


def test_the_end_is_allowed_only_when_the_grammar_accepts(compiler: Compiler) -> None:
    vocab = compiler.vocab
    mask = compiler.compile(Regex(pattern="[a-z]{2}[0-9]*"))(0)
    assert not vocab.eog & allowed(mask, vocab.n_vocab)
    for token in vocab.tokenize("ab"):
        mask.accept(token)
    assert allowed(mask, vocab.n_vocab) >= vocab.eog


def test_after_the_end_only_the_end_and_accept_is_harmless(compiler: Compiler) -> None:
    vocab = compiler.vocab
    mask = compiler.compile(JsonSchema(schema={"const": 1}))(0)
    for token in vocab.tokenize("1"):
        mask.accept(token)
    assert mask.ended
    mask.accept(vocab.eos)
    mask.accept(vocab.tokenize("x")[0])
    assert allowed(mask, vocab.n_vocab) == vocab.eog
    assert mask.failed == ""


def test_replayed_tokens_rebuild_the_state(compiler: Compiler) -> None:
    vocab = compiler.vocab
    factory = compiler.compile(JsonSchema(schema=SCHEMAS["nested"]))
    tokens = walk(factory(0), vocab, seed=4)
    first, again = factory(0), factory(0)
    for at, token in enumerate(tokens):
        if at == len(tokens) // 2:
            for old in tokens[:at]:
                again.accept(old)
        if at >= len(tokens) // 2:
            assert allowed(first, vocab.n_vocab) == allowed(again, vocab.n_vocab)
            again.accept(token)
        first.accept(token)
    assert first.ended == again.ended


def test_choices_do_not_disturb_each_other(compiler: Compiler) -> None:
    factory = compiler.compile(JsonSchema(schema=SCHEMAS["flat"]))
    one, two = factory(0), factory(1)
    walk(one, compiler.vocab, seed=1)
    walk(two, compiler.vocab, seed=2)
    assert not factory(0).ended


def test_whitespace_comes_to_an_end(compiler: Compiler) -> None:
    vocab = compiler.vocab
    mask = compiler.compile(JsonSchema(schema=SCHEMAS["flat"]))(0)
    mask.accept(vocab.tokenize("{")[0])
    spaces = {t for t in range(vocab.n_vocab) if vocab.piece(t) and not vocab.piece(t).strip()}
    for _ in range(200):
        options = allowed(mask, vocab.n_vocab)
        blank = sorted(options & spaces)
        if not blank:
            return
        mask.accept(blank[0])
    pytest.fail("whitespace never ends")


REFUSED: dict[str, tuple[Constraint, str]] = {
    "keyword": (JsonSchema(schema={"type": "array", "uniqueItems": True}), "uniqueItems"),
    "type": (JsonSchema(schema={"type": "foo"}), "foo"),
    "reference": (JsonSchema(schema={"$ref": "#/nope"}), "/nope"),
    "remote": (JsonSchema(schema={"$ref": "http://127.0.0.1:1/x"}), "127.0.0.1"),
    "false": (JsonSchema(schema=False), "Unsatisfiable"),
    "regex": (Regex(pattern="("), "unclosed"),
    "lark": (Grammar(text="start: nope"), "nope"),
    "gbnf": (Grammar(text="root ::= (", syntax="gbnf"), "GBNF"),
    "deep gbnf": (Grammar(text="root ::= " + "(" * 20_000, syntax="gbnf"), "GBNF"),
    "long": (Regex(pattern="a" * 300_000), "too many"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_part(compiler: Compiler, name: str) -> None:
    constraint, part = REFUSED[name]
    with pytest.raises(RequestError, match=re.escape(part)) as caught:
        compiler.compile(constraint)
    assert caught.value.param == "response_format"


def test_a_very_deep_schema_is_refused(compiler: Compiler) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(RequestError):
        compiler.compile(JsonSchema(schema=schema))


def test_a_mask_too_dear_to_compute_fails_and_ends(compiler: Compiler) -> None:
    mask = compiler.compile(Regex(pattern="(.*a.{200}|.*b.{180}c){30}"))(0)
    vocab = compiler.vocab
    chance = random.Random(1)
    for _ in range(400):
        options = allowed(mask, vocab.n_vocab)
        if mask.failed:
            assert options == vocab.eog
            return
        mask.accept(chance.choice(sorted(options)))
    pytest.skip("llguidance computed it all")


def test_compiling_from_many_threads(compiler: Compiler) -> None:
    found: list[int] = []

    def work(number: int) -> None:
        mask = compiler.compile(JsonSchema(schema={"const": number % 3}))(0)
        found.append(len(allowed(mask, compiler.vocab.n_vocab)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 12
