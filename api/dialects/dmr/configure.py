"""What `_configure` was told, as a model's configuration. Pure.

Flags are llama-server's; those that a worker can honour for one model are members of its
configuration, every other one is refused by its name. A flag wins over the member beside it, as
the later of two flags does.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from api.dialects.dmr import types
from api.durations import keep_alive_s
from shared import model_config
from shared.errors import RequestError, Unsupported
from shared.model_config import ModelConfig

MODES = (None, "", "completion", "embedding", "reranking")
OURS = "the operator's, set for the workers when they start"
REFUSED = {
    "speculative": f"draft models are {OURS}",
    "vllm": "there is no vLLM here",
}
FLAGS = {
    "-c": "context_size",
    "--ctx-size": "context_size",
    "-np": "slots",
    "--parallel": "slots",
    "-b": "prefill_budget",
    "--batch-size": "prefill_budget",
    "-t": "threads",
    "--threads": "threads",
    "--draft": "draft_max",
    "--draft-n": "draft_max",
    "--draft-max": "draft_max",
    "-ngl": "gpu_layers",
    "--gpu-layers": "gpu_layers",
    "--n-gpu-layers": "gpu_layers",
    "-ctk": "cache_type_k",
    "--cache-type-k": "cache_type_k",
    "-ctv": "cache_type_v",
    "--cache-type-v": "cache_type_v",
    "-fa": "flash_attention",
    "--flash-attn": "flash_attention",
    "--reasoning-budget": "reasoning_budget",
}
WORDS = frozenset({"cache_type_k", "cache_type_v", "flash_attention"})  # the others are numbers
BY_ITSELF = {"context_size": 0, "threads": 0}  # what llama-server's -1 is here


def config_of(wire: types.Configure) -> ModelConfig:
    """The members that were given. Raises RequestError, Unsupported."""
    if wire.mode not in MODES:
        raise Unsupported("mode", f"there is no mode {wire.mode!r} here")
    for name, why in REFUSED.items():
        if getattr(wire, name):
            raise Unsupported(name, why)
    given = {
        "context_size": _or_default("context_size", wire.context_size),
        "keep_alive_s": keep_alive_s(wire.keep_alive),
        "reasoning_budget": wire.llamacpp.reasoning_budget if wire.llamacpp else None,
    }
    members = {name: value for name, value in given.items() if value is not None}
    return model_config.of(**members | _of_flags(wire))


def _of_flags(wire: types.Configure) -> dict[str, Any]:
    if wire.runtime_flags:
        return dict(_members(wire.runtime_flags, param="runtime-flags"))
    try:
        words = shlex.split(wire.raw_runtime_flags or "")
    except ValueError as error:
        raise RequestError(
            f"raw-runtime-flags: {str(error).lower()}", param="raw-runtime-flags"
        ) from None
    return dict(_members(words, param="raw-runtime-flags"))


def _members(words: Sequence[str], *, param: str) -> Iterator[tuple[str, int | str]]:
    """(member, value) of each flag, as `--flag value` or `--flag=value`."""
    rest = iter(words)
    for word in rest:
        flag, sign, value = word.partition("=")
        member = FLAGS.get(flag)
        if member is None:
            raise Unsupported(param, f"{flag!r} cannot be set for one model; {', '.join(FLAGS)}")
        yield member, _value(member, value if sign else next(rest, ""), flag=flag, param=param)


def _value(member: str, text: str, *, flag: str, param: str) -> int | str:
    try:
        value = text if member in WORDS else _or_default(member, int(text))
        model_config.of(**{member: value})
    except (ValueError, RequestError):
        raise RequestError(f"{param}: {flag} cannot be {text!r}", param=param) from None
    assert value is not None
    return value


def _or_default(member: str, value: int | None) -> int | None:
    return BY_ITSELF.get(member, value) if value == -1 else value
