"""Vocab on the default model's real vocabulary."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.workers.real_vocab import real_vocab


def test_text_comes_back_byte_for_byte() -> None:
    vocab = real_vocab()
    for text in ("", "Hello", "  two  spaces\n\n", "Grüße 👋🏽 漢字", "\x00\x01", "<|im_end|>"):
        assert vocab.detokenize(vocab.tokenize(text)) == text.encode()


def test_markers_are_one_token_only_when_asked() -> None:
    vocab = real_vocab()
    assert vocab.tokenize("<|im_end|>", parse_special=True) == (vocab.eos,)
    assert len(vocab.tokenize("<|im_end|>")) > 1


def test_special_tokens_are_known() -> None:
    vocab = real_vocab()
    assert vocab.n_vocab == 49152
    assert vocab.text(vocab.eos) == "<|im_end|>"
    assert vocab.eos in vocab.eog
    assert vocab.eog <= vocab.control
    assert b"<|im_start|>" in vocab.control_pieces
    assert vocab.fim is None


def test_single_finds_only_whole_markers() -> None:
    vocab = real_vocab()
    assert vocab.single("<|im_end|>") == vocab.eos
    assert vocab.single("</think>") is None


@pytest.mark.parametrize("token", [-1, 49152])
def test_a_token_out_of_range_is_refused(token: int) -> None:
    with pytest.raises(ValueError, match=str(token)):
        real_vocab().piece(token)


def test_lone_surrogates_do_not_stop_the_tokenizer() -> None:
    assert real_vocab().detokenize(real_vocab().tokenize("a\ud800b")) == b"a?b"


def test_many_threads_tokenize_alike() -> None:
    vocab = real_vocab()
    texts = [f"Sentence {n}: the quick brown fox <|im_end|> ü {'x' * n}" for n in range(64)]
    alone = [vocab.tokenize(text, parse_special=True) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            at_once = list(pool.map(lambda t: vocab.tokenize(t, parse_special=True), texts))
            assert at_once == alone
