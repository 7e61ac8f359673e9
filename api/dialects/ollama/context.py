"""`context` of /api/generate: a conversation as numbers, which clients keep and send back unread.

Ollama's are tokens of one model. Ours are the conversation's texts, three bytes a number, so that
it goes through the template of whichever model is asked next. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from shared.errors import RequestError
from shared.messages import Message, Text

WIDTH = 3  # bytes a number: it fits every client's integers
Turn = tuple[Literal["system", "user", "assistant"], str]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Turn, ...]).decode


def packed(messages: Iterable[Message]) -> tuple[int, ...]:
    """The numbers of a conversation; pictures and reasoning are left out."""
    raw = _encode([(message.role, message.text) for message in messages])
    raw += b" " * (-len(raw) % WIDTH)
    return tuple(int.from_bytes(raw[start : start + WIDTH]) for start in range(0, len(raw), WIDTH))


def unpacked(numbers: Sequence[int]) -> tuple[Message, ...]:
    """The conversation of `packed` numbers. Raises RequestError for others."""
    try:
        turns = _decode(b"".join(number.to_bytes(WIDTH) for number in numbers))
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError):
        raise RequestError(
            "context: these numbers were not made here; send what an answer of this server had",
            param="context",
        ) from None
    return tuple(Message(role=role, content=(Text(text=text),)) for role, text in turns)
