"""Text to tokens and tokens to bytes, for one loaded model. Read-only, from any thread.

llama.cpp's tokenizer works on a constant vocabulary and keeps its state on the stack, so calls need
no lock (a test runs them at once). The table of pieces is made once, at the start. Whoever opened
the model closes it, and must not do so while a Vocab is in use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any

import llama_cpp
import msgspec

USER_DEFINED = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED


class Fim(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of fill-in-the-middle: before the prefix, the suffix and the middle."""

    prefix: int
    suffix: int
    middle: int


class Vocab:
    """The vocabulary of one model. `model` is a llama_cpp model pointer and stays the caller's."""

    def __init__(self, model: Any) -> None:
        pointer = llama_cpp.llama_model_get_vocab(model)
        if pointer is None:
            raise ValueError("the model has no vocabulary")
        self.pointer = pointer
        self.n_vocab: int = llama_cpp.llama_vocab_n_tokens(pointer)
        self.bos = _token(llama_cpp.llama_vocab_bos(pointer))
        self.eos = _token(llama_cpp.llama_vocab_eos(pointer))
        self.eot = _token(llama_cpp.llama_vocab_eot(pointer))
        self.separator = _token(llama_cpp.llama_vocab_sep(pointer))
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(pointer)
        self.adds_eos: bool = llama_cpp.llama_vocab_get_add_eos(pointer)
        self.fim = _fim(pointer)
        tokens = range(self.n_vocab)
        self._pieces = tuple(_piece(pointer, token) for token in tokens)
        self.longest_piece_bytes = max(map(len, self._pieces), default=1) or 1
        self.eog = frozenset(t for t in tokens if llama_cpp.llama_vocab_is_eog(pointer, t))
        self.control = frozenset(t for t in tokens if llama_cpp.llama_vocab_is_control(pointer, t))
        self.markers = frozenset(t for t in tokens if self._is_marker(t))
        self._starting: dict[bytes, tuple[int, ...]] = {}
        self.control_pieces = frozenset(self._pieces[t] for t in self.control) - {b""}

    @property
    def pieces(self) -> tuple[bytes, ...]:
        """Every token's bytes, by id."""
        return self._pieces

    def _is_marker(self, token: int) -> bool:
        """Tokens that their makers added and that look like `<this>`."""
        added = llama_cpp.llama_vocab_get_attr(self.pointer, token) & USER_DEFINED
        piece = self._pieces[token]
        return bool(added) and piece.startswith(b"<") and piece.endswith(b">")

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> tuple[int, ...]:
        """Token ids of `text`. `add_special` puts BOS/EOS where the model wants them;
        `parse_special` reads markers such as `<|im_end|>` in the text as their tokens.
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        while True:
            buffer = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(
                self.pointer, data, len(data), buffer, room, add_special, parse_special
            )
            if count >= 0:
                return tuple(buffer[:count])
            if -count <= room:
                raise ValueError(f"the text of {len(data)} bytes cannot be tokenized")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes of one token, markers included. ValueError if there is no such token."""
        if not 0 <= token < self.n_vocab:
            raise ValueError(f"token {token} is not one of the model's {self.n_vocab}")
        return self._pieces[token]

    def detokenize(self, tokens: Iterable[int]) -> bytes:
        """The bytes of tokens, one after another, markers included."""
        return b"".join(self.piece(token) for token in tokens)

    def text(self, token: int) -> str:
        """A marker's text; empty for no token (-1)."""
        return self.piece(token).decode("utf-8", "replace") if token >= 0 else ""

    def starting(self, start: bytes) -> tuple[int, ...]:
        """Tokens whose bytes begin with `start`, looked up once: for markers, not for prose."""
        if start not in self._starting:
            found = (at for at, piece in enumerate(self._pieces) if piece.startswith(start))
            self._starting[start] = tuple(found)
        return self._starting[start]

    def single(self, marker: str) -> int | None:
        """The token that alone stands for `marker`, if there is one."""
        tokens = self.tokenize(marker, parse_special=True)
        return tokens[0] if len(tokens) == 1 else None


def _token(found: int) -> int:
    """llama.cpp's "none" is -1 as int32; keep it so."""
    return found if found >= 0 else -1


def _fim(pointer: Any) -> Fim | None:
    prefix = llama_cpp.llama_vocab_fim_pre(pointer)
    suffix = llama_cpp.llama_vocab_fim_suf(pointer)
    middle = llama_cpp.llama_vocab_fim_mid(pointer)
    if min(prefix, suffix, middle) < 0:
        return None
    return Fim(prefix=prefix, suffix=suffix, middle=middle)


def _piece(pointer: Any, token: int) -> bytes:
    """One token's bytes; a second try where the first buffer was too small."""
    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        count = llama_cpp.llama_token_to_piece(pointer, token, buffer, size, 0, True)
        if count >= 0:
            return buffer.raw[:count]
        size = -count
