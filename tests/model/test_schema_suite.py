"""The JSON Schema Test Suite (draft 2020-12): what is taken is held to, what is not is named.

`WHOLE=1 pytest -s tests/model/test_schema_suite.py` draws 200 answers and prints the figures.
tests/data/json_schema_suite holds the suite's required cases, one a line, and its licence.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared.errors import RequestError
from shared.messages import Message, Text
from shared.requests import Chat, Generate, JsonSchema, Sampling
from tests.model.asking import WHOLE, Answer, Asking
from tests.workers.real_vocab import real_vocab
from workers.engine.constraints import Compiler, GrammarMask, MaskFactory

SUITE = Path(__file__).parent.parent / "data" / "json_schema_suite" / "draft2020-12.jsonl"
SUPPORTED_AT_LEAST = 164  # of 368, llguidance 1.9
VALID_REFUSED_AT_MOST = 22  # other spellings of numbers, looser formats: narrower than the schema
NAMED = re.compile(
    r'Unimplemented keys: \["|oneOf constraints|Unknown format: \w|Unsatisfiable schema: '
    r"|Resource 'http|Expected positive integer for '|Value for 'multipleOf'|regexes /.+/ and /"
)
ANSWERS = 200 if WHOLE else 24
MAX_TOKENS = 200 if WHOLE else 48
HOT = {"temperature": 1.2}
HOT_UNCUT = {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

Case = dict[str, Any]
Split = tuple[list[tuple[Case, MaskFactory]], list[tuple[Case, str]]]


def name(case: Case) -> str:
    """How the suite calls it."""
    return f"{case['file']}: {case['description']}"


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """All cases of the suite."""
    return [json.loads(line) for line in SUITE.read_text().splitlines()]


@pytest.fixture(scope="module")
def split(cases: list[Case]) -> Split:
    """The cases whose schemas compile, and the others with what was said of them."""
    compiler = Compiler(real_vocab())
    supported, refused = [], []
    for case in cases:
        try:
            supported.append((case, compiler.compile(JsonSchema(schema=case["schema"]))))
        except RequestError as error:
            refused.append((case, str(error)))
    return supported, refused


def test_what_is_not_supported_is_refused_by_name(split: Split) -> None:
    supported, refused = split
    reasons = Counter(why.removeprefix("response_format: the JSON schema ") for _, why in refused)
    print(f"\n{len(supported)} schemas supported, {len(refused)} refused:")
    for why, count in reasons.most_common():
        print(f"  {count:3} {why}")
    assert len(supported) >= SUPPORTED_AT_LEAST
    assert len(supported) + len(refused) == 368
    for case, why in refused:
        assert NAMED.search(why), (name(case), why)


def test_no_invalid_instance_of_the_suite_can_be_said(split: Split) -> None:
    refused_though_valid = 0
    for case, make in split[0]:
        for test in case["tests"]:
            text = json.dumps(test["data"], ensure_ascii=False)
            can = can_say(make, text)
            assert test["valid"] or not can, (name(case), test["description"], text)
            refused_though_valid += test["valid"] and not can
    assert refused_though_valid <= VALID_REFUSED_AT_MOST


def can_say(make: MaskFactory, text: str) -> bool:
    """Whether a mask lets `text` through, token by token, and then the end."""
    mask, vocab = make(0), real_vocab()
    assert isinstance(mask, GrammarMask)
    for token in vocab.tokenize(text, parse_special=False):
        if not mask.takes(token):
            return False
        mask.accept(token)
    return mask.ended or mask.takes(vocab.eos)


@pytest.mark.timeout(1800 if WHOLE else 120)
def test_random_answers_parse_and_validate_or_say_that_they_were_cut(
    asking: Asking, split: Split
) -> None:
    chance = random.Random(20)
    asked = [chance.choice(split[0])[0] for _ in range(ANSWERS)]
    answers = asking.all(request(n, case) for n, case in enumerate(asked))
    whole = [verdict(case, answer) for case, answer in zip(asked, answers, strict=True)]
    print(f"\n{len(whole)} answers: {sum(whole)} valid, {len(whole) - sum(whole)} cut by length")
    assert sum(whole) > len(whole) / 3


def request(n: int, case: Case) -> Generate:
    """One hot answer to a case's schema; every other one from the whole distribution."""
    message = Message(role="user", content=(Text(text=f"Give an example. {name(case)}"),))
    return Generate(
        id=f"{n} {name(case)}",
        model="",
        input=Chat(messages=(message,)),
        constraint=JsonSchema(schema=case["schema"]),
        sampling=Sampling(seed=n, **(HOT_UNCUT if n % 2 else HOT)),
        max_tokens=MAX_TOKENS,
    )


def verdict(case: Case, answer: Answer) -> bool:
    """True for a valid answer, False for one that says it was cut; anything else fails."""
    if answer.reason == "length":
        return False
    assert answer.reason == "stop", name(case)
    try:
        Draft202012Validator(case["schema"]).validate(json.loads(answer.text))
    except Exception as error:
        raise AssertionError(f"{name(case)}: {answer.text!r}") from error
    return True
