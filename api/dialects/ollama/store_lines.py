"""Ollama's requests to the model store as tasks, and their progress as Ollama's lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from api.dialects.ollama import answers
from api.dialects.ollama import types as wire
from api.dialects.ollama.errors import body
from api.dialects.ollama.parse import model_of
from shared import storing
from shared.errors import RequestError, Unsupported, error_of
from shared.events import Event, Failed, Progress, Stored

Kind = Literal["pull", "push", "create"]

LOGIN = (
    "logins are the operator's: docker login on the workers' hosts, or a token over Docker's API"
)
REFUSED = {
    "system": "send the system prompt with each request",
    "messages": "send the conversation with each request",
    "adapters": "no adapters are applied",
    "quantize": "nothing is quantised here: use a quantised GGUF",
    "quantization": "nothing is quantised here: use a quantised GGUF",
    "modelfile": "send its parts as members: from, files, template, license, parameters",
    "path": "upload files to /api/blobs and name them in files",
    "username": LOGIN,
    "password": LOGIN,
}
FIRST = {"pull": "pulling manifest", "push": "retrieving manifest", "create": "reading model"}
VERBS = {"pull": "pulling", "push": "pushing"}

_encode = msgspec.json.Encoder().encode


def pull(asked: wire.Pull) -> storing.Pull:
    """Raises RequestError, Unsupported."""
    _check(asked)
    return storing.Pull(source=model_of(asked))


def push(asked: wire.Push) -> storing.Push:
    """Raises RequestError, Unsupported."""
    _check(asked)
    return storing.Push(name=model_of(asked))


def create(asked: wire.Create) -> storing.Create:
    """Raises RequestError, Unsupported."""
    _check(asked)
    if bool(asked.source) == bool(asked.files):
        raise RequestError("either from or files says what the model is made of", param="from")
    licenses = (asked.license,) if isinstance(asked.license, str) else asked.license or ()
    return storing.Create(
        ref=model_of(asked),
        source=asked.source or "",
        files=asked.files or {},
        template=asked.template or None,
        licenses=tuple(text for text in licenses if text),
        context_size=asked.parameters.num_ctx if asked.parameters else None,
    )


def copied(asked: wire.Copy) -> tuple[str, str]:
    """Source and destination. Raises RequestError."""
    if not asked.source.strip() or not asked.destination.strip():
        raise RequestError("source and destination are required", param="source")
    return asked.source, asked.destination


def _check(asked: wire.Transfer | wire.Create) -> None:
    for name, why in REFUSED.items():
        if getattr(asked, name, None):
            raise Unsupported(name, why)
    if isinstance(asked, wire.Transfer) and asked.insecure:
        raise Unsupported("insecure", "the operator names registries without TLS")


class Lines:
    """The stream: streaming.Renderer."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._begun = False

    def feed(self, events: Sequence[Event]) -> bytes:
        """A line an event that has something to say, and one before them all."""
        lines: list[msgspec.Struct] = [line for event in events for line in self._of(event)]
        if lines and not self._begun and not isinstance(lines[0], answers.Error):
            lines.insert(0, answers.Status(status=FIRST[self._kind]))
        self._begun = self._begun or bool(lines)
        return b"".join(_encode(line) + b"\n" for line in lines)

    def _of(self, event: Event) -> list[msgspec.Struct]:
        match event:
            case Progress(stage=stage, layer=layer, done=done, size=size):
                short = layer.removeprefix("sha256:")[:12]
                status = f"{VERBS.get(stage, 'reading')} {short}"
                digest = layer if layer.startswith("sha256:") else f"sha256:{layer}"
                return [answers.Status(status=status, digest=digest, total=size, completed=done)]
            case Stored():
                return [answers.Status(status="writing manifest"), SUCCESS]
            case Failed():
                return [body(error_of(event))]
            case _:
                return []


SUCCESS = answers.Status(status="success")
