"""docs/dialects.md tells the truth about every field of Anthropic's and Ollama's requests."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import pytest

from api import body
from api.body import Refused
from api.dialects.anthropic import parse as anthropic
from api.dialects.anthropic import types as anthropic_types
from api.dialects.ollama import parse as ollama
from api.dialects.ollama import store_lines
from api.dialects.ollama import types as ollama_types
from shared.errors import Unsupported
from shared.requests import Request
from tests.api.dialects.tables import Field, fields, of, table

TEXT = {"type": "text", "text": "a"}
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "c"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CALL = {"function": {"name": "f", "arguments": {}}}
OLLAMA_TOOL = {"function": {"name": "f"}}
OK: dict[str, Any] = {
    "speed": "standard",
    "service_tier": "auto",
    "metadata": {"user_id": "u"},
    "user_id": "u",
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "edits": [{"type": "clear_thinking_20251015", "keep": "all"}],
    "caller": {"type": "direct"},
    "allowed_callers": ["direct"],
    "ttl": "1h",
    "signature": "s",
    "type": "function",
    "description": "d",
    "options": {"num_ctx": 4},
    "penalize_newline": True,
    "verbose": True,
}
STORE: dict[str, Any] = {
    "Transfer": (ollama_types.Pull, store_lines.pull, {}),
    "Create": (ollama_types.Create, store_lines.create, {"from": "a"}),
}
YES = ("eager_input_streaming", "use_mmap", "use_mlock", "low_vram", "f16_kv", "numa")
NO = ("truncate", "shift", "vocab_only", "logits_all", "embedding_only", "insecure")


def accepted(name: str) -> Any:
    """A value that a field without effect takes."""
    if name in YES or name in NO:
        return name in YES
    return OK.get(name, 1)


@pytest.mark.parametrize(
    ("dialect", "module"), [("Anthropic", anthropic_types), ("Ollama", ollama_types)]
)
def test_every_field_is_in_the_table_and_no_other(dialect: str, module: ModuleType) -> None:
    written, read = table(dialect), fields(module)
    assert set(written) == set(read)
    typed = {field for field, type_ in read.items() if type_ == Refused}
    assert typed == {field for field, state in written.items() if state == "refused"}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def called(use: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    return [user(TEXT), {"role": "assistant", "content": [use]}, user(result)]


def messages(struct: str, more: dict[str, Any]) -> dict[str, Any]:
    """A Messages request whose part of this Struct has `more`."""
    thought = {"type": "thinking", "thinking": "hm", **more}
    places: dict[str, dict[str, Any]] = {
        "CountTokens": more,
        "MessageCreate": more,
        "OutputConfig": {"output_config": more},
        "ContextManagement": {"context_management": more},
        "Metadata": {"metadata": more},
        "CacheControl": {"cache_control": {"type": "ephemeral", **more}},
        "Tool": {"tools": [TOOL | more]},
        "TextBlock": {"messages": [user(TEXT | more)]},
        "ImageBlock": {"messages": [user(IMAGE | more)]},
        "UrlSource": {"messages": [user(IMAGE | {"source": {"type": "url", **more}})]},
        "FileSource": {"messages": [user(IMAGE | {"source": {"type": "file", **more}})]},
        "ThinkingBlock": {"messages": [user(TEXT), {"role": "assistant", "content": [thought]}]},
        "RedactedThinkingBlock": {
            "messages": [{"role": "assistant", "content": [{"type": "redacted_thinking", **more}]}]
        },
        "ToolUseBlock": {"messages": called(USE | more, RESULT)},
        "ToolResultBlock": {"messages": called(USE, RESULT | more)},
    }
    return {"model": "m", "messages": [user(TEXT)], "tools": [TOOL]} | places[struct]


def parse_messages(struct: str, more: dict[str, Any]) -> Request:
    kind = anthropic_types.CountTokens if struct == "CountTokens" else anthropic_types.MessageCreate
    wire = body.parse(msgspec.json.encode(messages(struct, more)), msgspec.json.Decoder(kind))
    if isinstance(wire, anthropic_types.MessageCreate):
        return anthropic.generate(wire, job="j")
    return anthropic.tokenize(wire, job="j")


def parse_ollama(struct: str, more: dict[str, Any]) -> Request | None:
    """A request whose part of this Struct has `more`, parsed; None for `show`."""
    hi = {"role": "user", "content": "a"}
    function = CALL["function"] | more
    chats: dict[str, dict[str, Any]] = {
        "Generation": more,
        "Tool": {"tools": [OLLAMA_TOOL | more]},
        "Options": {"options": more},
        "Call": {"messages": [hi, {"role": "assistant", "tool_calls": [CALL | more]}]},
        "CallFunction": {
            "messages": [hi, {"role": "assistant", "tool_calls": [{"function": function}]}]
        },
    }
    if struct in chats:
        wire = _wire(ollama_types.Chat, {"messages": [hi]} | chats[struct])
        return ollama.chat(wire, job="j")
    if struct == "Generate":
        return ollama.generate(_wire(ollama_types.Generate, {"prompt": "a"} | more), job="j")
    if struct == "Embed":
        return ollama.embed(_wire(ollama_types.Embed, {"input": "a"} | more), job="j")
    if struct == "Embeddings":
        return ollama.embeddings(_wire(ollama_types.Embeddings, {"prompt": "a"} | more), job="j")
    if struct in STORE:
        kind, parse, base = STORE[struct]
        asked = parse(_wire(kind, base | more))
        assert asked is not None
        return None
    return ollama.check_show(_wire(ollama_types.Show, more))


def _wire(kind: Any, asked: dict[str, Any]) -> Any:
    return body.parse(msgspec.json.encode({"model": "m"} | asked), msgspec.json.Decoder(kind))


PARSERS: dict[str, Any] = {"Anthropic": parse_messages, "Ollama": parse_ollama}
REFUSED = [(dialect, field) for dialect in PARSERS for field in of(dialect, "refused")]
NO_EFFECT = [(dialect, field) for dialect in PARSERS for field in of(dialect, "no effect")]


@pytest.mark.parametrize(("dialect", "field"), REFUSED)
def test_what_is_refused_is_refused_by_name(dialect: str, field: Field) -> None:
    struct, name = field
    with pytest.raises(Unsupported) as caught:
        PARSERS[dialect](struct, {name: "x"})
    if struct != "RedactedThinkingBlock":  # there the block itself is named
        assert (caught.value.param or "").endswith(name)


@pytest.mark.parametrize(("dialect", "field"), REFUSED)
def test_null_is_as_nothing(dialect: str, field: Field) -> None:
    struct, name = field
    if struct not in ("UrlSource", "FileSource", "RedactedThinkingBlock"):
        assert PARSERS[dialect](struct, {name: None}) == PARSERS[dialect](struct, {})


@pytest.mark.parametrize(("dialect", "field"), NO_EFFECT)
def test_what_has_no_effect_has_none(dialect: str, field: Field) -> None:
    struct, name = field
    with_it = PARSERS[dialect](struct, {name: accepted(name)})
    assert with_it == PARSERS[dialect](struct, {})
