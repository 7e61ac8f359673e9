"""Reasoning beside constraints: free, bounded, then the constraint. Real vocabulary."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from shared.requests import JsonSchema, Regex
from tests.workers.real_vocab import real_vocab
from workers.engine.constraints import Compiler, TokenMask
from workers.engine.thinking import Thinking, ThinkingMask


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """One for all tests."""
    return Compiler(real_vocab())


# Two tokens of this vocabulary that are markers of their own, and tags that are several tokens.
SINGLE = ("<jupyter_start>", "<jupyter_output>")
SEVERAL = ("<think>", "</think>")


def thinking(tags: tuple[str, str], *, opened: bool = False, budget: int | None = None) -> Thinking:
    """How a model with these tags thinks."""
    return Thinking(
        opening=tags[0], closings=(tags[1],), force="\n" + tags[1], opened=opened, budget=budget
    )


def allowed(mask: TokenMask) -> frozenset[int]:
    """The tokens a mask lets through."""
    logits = np.zeros(real_vocab().n_vocab, np.float32)
    mask.apply(logits)
    return frozenset(np.flatnonzero(np.isfinite(logits)).tolist())


def say(mask: TokenMask, text: str) -> None:
    """Accept a text's tokens; each must be allowed."""
    for token in real_vocab().tokenize(text, parse_special=True):
        assert token in allowed(mask), real_vocab().piece(token)
        mask.accept(token)


@pytest.mark.parametrize("tags", [SINGLE, SEVERAL])
def test_the_constraint_begins_after_the_reasoning(
    compiler: Compiler, tags: tuple[str, str]
) -> None:
    inner = compiler.compile(JsonSchema(schema={"const": 12}))(0)
    mask = ThinkingMask(real_vocab(), thinking(tags, opened=True), inner)
    assert not allowed(mask) & real_vocab().eog
    say(mask, "Let me see {" + tags[1])
    assert all(real_vocab().piece(token).strip().startswith(b"1") for token in allowed(mask))
    say(mask, "12")
    assert mask.ended


def test_without_reasoning_the_constraint_holds_at_once(compiler: Compiler) -> None:
    inner = compiler.compile(Regex(pattern="[0-9]+"))(0)
    mask = ThinkingMask(real_vocab(), thinking(SINGLE), inner)
    opener = real_vocab().single(SINGLE[0])
    assert opener in allowed(mask)
    say(mask, "1")
    assert opener not in allowed(mask)
    assert allowed(mask) >= real_vocab().eog


def test_a_model_may_open_its_reasoning_itself(compiler: Compiler) -> None:
    inner = compiler.compile(Regex(pattern="[0-9]+"))(0)
    mask = ThinkingMask(real_vocab(), thinking(SINGLE), inner)
    say(mask, SINGLE[0] + "words" + SINGLE[1] + "42")
    assert allowed(mask) >= real_vocab().eog


@pytest.mark.parametrize("tags", [SINGLE, SEVERAL])
def test_the_budget_closes_the_reasoning(tags: tuple[str, str]) -> None:
    vocab = real_vocab()
    mask = ThinkingMask(vocab, thinking(tags, opened=True, budget=3), None)
    say(mask, "one two three")
    closing = vocab.tokenize("\n" + tags[1], parse_special=True)
    for token in closing:
        assert allowed(mask) == {token}
        mask.accept(token)
    assert len(allowed(mask)) == vocab.n_vocab
    assert not mask.ended


def test_a_budget_of_nothing() -> None:
    mask = ThinkingMask(real_vocab(), thinking(SINGLE, budget=0), None)
    assert real_vocab().single(SINGLE[0]) not in allowed(mask)
    mask = ThinkingMask(real_vocab(), thinking(SINGLE, opened=True, budget=0), None)
    assert len(allowed(mask)) == 1


def test_reasoning_that_ends_in_time_is_left_alone() -> None:
    mask = ThinkingMask(real_vocab(), thinking(SEVERAL, opened=True, budget=20), None)
    say(mask, "one</think>" + " answer" * 40)


def test_no_token_closes_the_reasoning_and_says_more(compiler: Compiler) -> None:
    vocab = real_vocab()
    inner = compiler.compile(Regex(pattern="[0-9]+"))(0)
    mask = ThinkingMask(vocab, thinking(SEVERAL, opened=True), inner)
    say(mask, "a</think")
    for token in allowed(mask):
        piece = vocab.piece(token)
        assert not (piece.startswith(b">") and piece[1:].strip())
    assert vocab.tokenize(">")[0] in allowed(mask)


def rebuilt(compiler: Compiler, tokens: Iterable[int]) -> ThinkingMask:
    """A fresh mask that has heard these tokens."""
    inner = compiler.compile(Regex(pattern="[0-9]{3}"))(0)
    mask = ThinkingMask(real_vocab(), thinking(SEVERAL, opened=True, budget=4), inner)
    for token in tokens:
        mask.accept(token)
    return mask


def test_replayed_tokens_rebuild_the_state(compiler: Compiler) -> None:
    vocab = real_vocab()
    tokens: list[int] = []
    mask = rebuilt(compiler, tokens)
    while not mask.ended:
        assert allowed(mask) == allowed(rebuilt(compiler, tokens))
        token = max(allowed(mask) - vocab.eog)
        mask.accept(token)
        tokens.append(token)
    text = vocab.detokenize(tokens).decode("utf-8", "replace")
    assert text.partition("\n</think>")[2].isdigit()
