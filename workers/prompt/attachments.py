"""Images and sounds of a conversation: a mark in the rendered text, then their placeholders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from shared.errors import BadTemplate, RequestError, Unsupported
from shared.messages import Audio, Image, Link, Message, Text

MOST_PARTS = 32

Attachment = Image | Audio


class Measures(Protocol):
    """What the model's projector says: see workers/media/encoder.py."""

    def takes(self, part: Attachment) -> bool:
        """Whether the model has a use for such a part."""

    def tokens(self, part: Attachment) -> tuple[int, ...]:
        """Its tokens and placeholders. Raises RequestError for bad bytes."""


def of(messages: Iterable[Message], media: Measures | None) -> tuple[Attachment, ...]:
    """The attachments, in order. Raises Unsupported for those the model cannot take."""
    parts: list[Attachment] = []
    for part in (part for message in messages for part in message.content):
        kind = type(part).__name__.lower()
        if isinstance(part, Text):
            continue
        if media is None or isinstance(part, Link):
            raise Unsupported("messages", f"this model takes text only, not {kind}")
        if not media.takes(part):
            raise Unsupported("messages", f"this model takes no {kind}")
        parts.append(part)
    if len(parts) > MOST_PARTS:
        raise RequestError(f"messages: more than {MOST_PARTS} images or sounds", param="messages")
    return tuple(parts)


def mark(job: str, parts: Sequence[Attachment]) -> str:
    """What stands for an attachment in the rendered text: nothing that a caller could guess."""
    digest = hashlib.sha256(job.encode())
    for part in parts:
        digest.update(hashlib.sha256(part.data).digest())
    return f"<__media_{digest.hexdigest()[:32]}__>"


def marked(messages: Sequence[Message], sign: str) -> tuple[Message, ...]:
    """The messages with the mark where attachments are, as text."""
    return tuple(
        replace(
            message,
            content=tuple(
                part if isinstance(part, Text) else Text(text=sign) for part in message.content
            ),
        )
        for message in messages
    )


def pieces(text: str, sign: str, parts: Sequence[Attachment]) -> list[str]:
    """The rendered text between the attachments. BadTemplate if the template lost some."""
    found = text.split(sign)
    if len(found) != len(parts) + 1:
        raise BadTemplate(
            f"the model's chat template shows {len(found) - 1} of {len(parts)} images or sounds",
            param="messages",
        )
    if parts and not found[-1]:
        raise BadTemplate("the prompt ends in an image or sound", param="messages")
    return found
