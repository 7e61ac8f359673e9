"""What Docker Model Runner's clients get from the routes about models. Pure.

A stream is one JSON object a line. Its media type is text/plain and its lines are HTML-escaped
unless the client accepts exactly application/json: so it is there, and its clients unescape.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from api.dialects.openai import models
from shared.errors import error_of
from shared.events import Event, Failed, Progress, Stored
from shared.presence import ModelCard

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
TEMPLATE_KEY = "tokenizer.chat_template"
ESCAPES = (("&", "&amp;"), ("'", "&#39;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"))
DONE = {"pull": "Model pulled successfully", "push": "Model pushed successfully"}
VERBS = {"pull": "Downloaded", "push": "Uploaded"}


class Config(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The model in words; `gguf` is its header, as text."""

    format: str = ""
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    size: str = ""
    gguf: dict[str, str] = {}
    context_size: int | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model. `created` is Unix seconds, 0 when unknown."""

    id: str
    tags: tuple[str, ...] = ()
    created: int
    config: Config


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """How far one layer is, in bytes."""

    id: str
    size: int
    current: int


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a pull or push. `total` is of all layers, in bytes."""

    type: str
    message: str
    total: int = 0
    layer: Layer | None = None
    mode: str = ""


class Tagged(msgspec.Struct, frozen=True):
    """Of tag."""

    message: str
    target: str


class Repackaged(msgspec.Struct, frozen=True):
    """Of repackage."""

    message: str
    source: str
    target: str


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name that is gone, or a model, by its ID."""

    untagged: str = msgspec.field(name="Untagged", default="")
    deleted: str = msgspec.field(name="Deleted", default="")


def model(card: ModelCard, *, tagged: bool = True) -> Model:
    """One model; what a registry has is shown without tags."""
    return Model(
        id=card.digest,
        tags=card.tags if tagged else (),
        created=card.created,
        config=config(card),
    )


def config(card: ModelCard) -> Config:
    """The artifact's own words; of a plain file, ours."""
    facts = models.shown(card).dmr
    assert facts is not None
    said = card.config
    header = {key: str(value) for key, value in card.metadata.items()}
    if card.template:
        header[TEMPLATE_KEY] = card.template
    return Config(
        format=said.get("format", "gguf"),
        quantization=said.get("quantization", facts.quantization),
        parameters=said.get("parameters", facts.parameters),
        architecture=said.get("architecture", facts.architecture),
        size=said.get("size", facts.size),
        gguf=header,
        context_size=card.packaged_context or None,
    )


def actions(untagged: Sequence[str], deleted: Sequence[str]) -> list[Action]:
    """What a delete did, in order."""
    names = (Action(untagged=name) for name in untagged)
    return [*names, *(Action(deleted=one) for one in deleted)]


class Lines:
    """The stream of a pull or push: streaming.Renderer."""

    def __init__(self, mode: str, *, escaped: bool) -> None:
        self._mode = mode
        self._escaped = escaped

    def feed(self, events: Sequence[Event]) -> bytes:
        """A line an event that has something to say."""
        lines = [line for event in events if (line := self._line(event))]
        return b"".join(self._framed(line) for line in lines)

    def _line(self, event: Event) -> Line | None:
        match event:
            case Progress(stage=stage, total=total, done=done, size=size, layer=layer):
                verb = VERBS.get(stage, "Loaded")
                return Line(
                    type="progress",
                    message=f"{verb}: {done / 1e6:.2f} MB",
                    total=total,
                    layer=Layer(id=layer, size=size, current=done),
                    mode=stage,
                )
            case Stored(cached=True, size=size):
                return Line(type="success", message=f"Using cached model: {size}", mode=self._mode)
            case Stored():
                return Line(type="success", message=DONE[self._mode], mode=self._mode)
            case Failed():
                return Line(type="error", message=f"Error: {error_of(event)}", mode=self._mode)
            case _:
                return None

    def _framed(self, line: Line) -> bytes:
        raw = msgspec.json.encode(line)
        return (escape(raw.decode()).encode() if self._escaped else raw) + b"\n"


def escape(text: str) -> str:
    """As Go's html.EscapeString."""
    for plain, escaped in ESCAPES:
        text = text.replace(plain, escaped)
    return text
