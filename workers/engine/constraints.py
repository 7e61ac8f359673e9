"""Constraints as token masks: which tokens may come next, by llguidance.

A Compiler belongs to one model. Compiling happens off the engine's thread (it lets go of the GIL)
and ends in a factory; each choice takes a mask of its own from it. Masks belong to the engine's
thread. Everything is bounded: the constraint's text, the work to compile it, the work of a step.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from llama_cpp.llama_cpp import _lib as _libllama
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray

from shared.errors import RequestError
from shared.requests import Constraint, Grammar, JsonObject, JsonSchema, Regex
from workers.models.vocab import Vocab

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_TEXT_BYTES = 256 * 1024
CACHED = 64
# A long run of whitespace is where small models get lost: JSON may have some, not without end.
WHITESPACE = r"[\x20\x0A\x0D\x09]{1,24}"
LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 200_000,
    "verbose_errors": False,
}


class TokenMask(Protocol):
    """The state of one choice. Feeding the same tokens to a fresh one gives the same state."""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Write -inf where a token may not come next. `logits` is float32 of n_vocab."""

    def accept(self, token: int) -> None:
        """The token that came. Harmless after the end."""

    @property
    def ended(self) -> bool:
        """Whether nothing but the end of generation may follow."""

    @property
    def failed(self) -> str:
        """Why the mask can no longer keep its promise (it then allows only the end), or empty."""


MaskFactory = Callable[[int], TokenMask]


class GrammarMask:
    """A TokenMask over llguidance's matcher."""

    def __init__(self, matcher: LLMatcher, eog: frozenset[int]) -> None:
        self._matcher = matcher
        self._eog = eog
        self._failed = ""

    @property
    def ended(self) -> bool:
        """See TokenMask."""
        return self._matcher.is_stopped()

    @property
    def failed(self) -> str:
        """See TokenMask."""
        return self._failed

    def apply(self, logits: NDArray[np.float32]) -> None:
        """See TokenMask."""
        np.copyto(logits, -np.inf, where=~self.allowed(len(logits)))

    def allowed(self, n_vocab: int) -> NDArray[np.bool_]:
        """True for each token that may come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, count=n_vocab, bitorder="little").view(np.bool_)
        if self._matcher.is_error():
            self._failed = self._failed or _first_line(self._matcher.get_error())
            allowed[:] = False
            allowed[list(self._eog)] = True
        return allowed

    def takes(self, token: int) -> bool:
        """Whether `token` may come next."""
        return self._matcher.validate_tokens([token]) == 1

    def accept(self, token: int) -> None:
        """See TokenMask."""
        if self.ended or token in self._eog:
            return
        if not self._matcher.consume_token(token) and not self._failed:
            self._failed = _first_line(self._matcher.get_error())


class EitherMask:
    """What any of several grammars allows; those that a token contradicts drop out."""

    def __init__(self, masks: Sequence[GrammarMask]) -> None:
        self._masks = list(masks)

    @property
    def ended(self) -> bool:
        """See TokenMask."""
        return all(mask.ended for mask in self._masks)

    @property
    def failed(self) -> str:
        """See TokenMask."""
        reasons = [mask.failed for mask in self._masks]
        return reasons[0] if all(reasons) else ""

    def apply(self, logits: NDArray[np.float32]) -> None:
        """See TokenMask."""
        masks = [mask.allowed(len(logits)) for mask in self._masks]
        np.copyto(logits, -np.inf, where=~np.logical_or.reduce(masks))

    def accept(self, token: int) -> None:
        """See TokenMask."""
        if not self.ended:
            self._masks = [mask for mask in self._masks if mask.takes(token)] or self._masks
            for mask in self._masks:
                mask.accept(token)


class Compiler:
    """Constraints of one model, compiled and kept. Safe from several threads."""

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[bytes, LLMatcher] = OrderedDict()

    def compile(self, constraint: Constraint, *, param: str = "response_format") -> MaskFactory:
        """A factory of masks; the argument is the choice's number.

        Takes 1 ms for a usual schema; 0.3 s the first time for a model. RequestError, naming
        `param`, for what llguidance cannot take.
        """
        matcher = self._matcher(constraint, param)
        return lambda choice: GrammarMask(matcher.deep_copy(), self.vocab.eog)

    def either(self, *asked: tuple[Constraint, str]) -> MaskFactory:
        """A factory of masks that hold to one of several constraints, each with its `param`."""
        matchers = [self._matcher(constraint, param) for constraint, param in asked]
        eog = self.vocab.eog
        return lambda choice: EitherMask([GrammarMask(m.deep_copy(), eog) for m in matchers])

    def _matcher(self, constraint: Constraint, param: str) -> LLMatcher:
        key = _key(constraint, param)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        made = self._make(constraint, param)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > CACHED:
                self._kept.popitem(last=False)
        return made

    def _make(self, constraint: Constraint, param: str) -> LLMatcher:
        grammar = grammar_of(constraint, param)
        limits = LLParserLimits(**LIMITS)
        matcher = LLMatcher(self.tokenizer(), grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise _refused(constraint, param, matcher.get_error())
        return matcher

    def tokenizer(self) -> LLTokenizer:
        """llguidance's view of the vocabulary, made when first needed."""
        with self._lock:
            if self._tokenizer is None:
                eos = self.vocab.eos
                ends = [*([eos] if eos >= 0 else []), *sorted(self.vocab.eog - {eos})]
                self._tokenizer = _tokenizer(self.vocab, ends)
            return self._tokenizer


def _tokenizer(vocab: Vocab, ends: list[int]) -> LLTokenizer:
    """llguidance tells markers from text by a leading byte that no text has."""
    markers = vocab.control | vocab.markers
    pieces = [vocab.piece(token) for token in range(vocab.n_vocab)]
    make: Any = LLTokenizer.from_llamacpp  # type: ignore[attr-defined]  # missing in its stubs
    made: LLTokenizer = make(
        tokens=[b"\xff" + piece if at in markers else piece for at, piece in enumerate(pieces)],
        vocab_ptr=vocab.pointer,
        tokenize_fptr=ctypes.cast(_libllama.llama_tokenize, ctypes.c_void_p).value,
        eos_token=ends,
        slices=None,
    )
    return made


def _key(constraint: Constraint, param: str) -> bytes:
    """The constraint as bytes; RequestError if that is too much."""
    try:
        key = msgspec.json.encode(constraint)
    except (RecursionError, msgspec.MsgspecError, TypeError) as error:
        raise RequestError(f"{param}: nested too deep", param=param) from error
    if len(key) > MAX_TEXT_BYTES:
        raise RequestError(
            f"{param}: {len(key)} bytes are too many for a constraint ({MAX_TEXT_BYTES} at most)",
            param=param,
        )
    return key


def grammar_of(constraint: Constraint, param: str) -> str:
    """The constraint as a grammar of llguidance's."""
    match constraint:
        case JsonObject():
            return _json({"type": "object"}, param)
        case JsonSchema(schema=schema):
            return _json(schema, param)
        case Regex(pattern=pattern):
            return LLMatcher.grammar_from_regex(pattern)
        case Grammar(text=text, syntax="lark"):
            return LLMatcher.grammar_from_lark(text)
        case Grammar(text=text):
            return LLMatcher.grammar_from_lark(_lark(text, param))


def _json(schema: dict[str, Any] | bool, param: str) -> str:
    """llguidance takes options only beside an object, so `true` and `false` become one."""
    whole = schema if isinstance(schema, dict) else {"allOf": [schema]}
    text = msgspec.json.encode(whole).decode()
    options: JsonCompileOptions = {"whitespace_pattern": WHITESPACE}
    try:
        return LLMatcher.grammar_from_json_schema(text, overrides=options)
    except ValueError as error:
        raise RequestError(
            f"{param}: the JSON schema cannot be used: {error}", param=param
        ) from error


def _lark(gbnf: str, param: str) -> str:
    try:
        return str(gbnf_to_lark(gbnf))
    except Exception as error:  # the converter raises bare ones
        raise RequestError(
            f"{param}: the GBNF grammar is not valid: {error}", param=param
        ) from error


def _refused(constraint: Constraint, param: str, error: str) -> RequestError:
    what = {
        JsonObject: "JSON object",
        JsonSchema: "JSON schema",
        Regex: "regular expression",
        Grammar: "grammar",
    }[type(constraint)]
    return RequestError(f"{param}: the {what} cannot be used: {_first_line(error)}", param=param)


def _first_line(error: str) -> str:
    """An error without the state dump, on one line."""
    text = " ".join(error.split("<state>")[0].split())
    return text[:500] or "unknown error"
