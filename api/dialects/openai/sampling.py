"""The fields chat and completions share, in the canonical vocabulary. Pure."""

from __future__ import annotations

import re
from typing import Any

from api.dialects.openai.types import (
    Generation,
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    Lora,
    RegexFormat,
    ResponseFormat,
    TextFormat,
)
from shared.errors import RequestError, Unsupported
from shared.requests import (
    Adapter,
    Constraint,
    Grammar,
    JsonObject,
    JsonSchema,
    Lane,
    Regex,
    Sampling,
)

SAME_NAMES = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "repeat_penalty",
    "repeat_last_n",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "dynatemp_range",
    "dynatemp_exponent",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "xtc_probability",
    "xtc_threshold",
)


def common(wire: Generation) -> dict[str, Any]:
    """Fields of Generate that both endpoints fill alike, as keyword arguments."""
    if wire.stream_options is not None:
        _stream_options(wire)
    return {
        "sampling": sampling(wire),
        "min_tokens": wire.min_tokens or 0,
        "ignore_eos": bool(wire.ignore_eos),
        "stop": stops(wire.stop),
        "choices": wire.n or 1,
        "constraint": constraint(wire),
        "adapters": tuple(_adapter(one, f"lora[{n}]") for n, one in enumerate(wire.lora or ())),
        "lane": lane(wire),
    }


def sampling(wire: Generation) -> Sampling:
    """What is given; the rest as shared.requests.Sampling has it."""
    given = {name: value for name in SAME_NAMES if (value := getattr(wire, name)) is not None}
    if wire.top_k == -1:  # vLLM's word for all of them
        given["top_k"] = 0
    if wire.seed is not None and wire.seed >= 0:  # llama-server's -1 asks for a random one
        given["seed"] = wire.seed
    if wire.dry_sequence_breakers is not None:
        given["dry_sequence_breakers"] = tuple(wire.dry_sequence_breakers)
    if wire.repetition_penalty is not None:
        _one_of(wire, "repeat_penalty", "repetition_penalty")
        given |= {"repeat_penalty": wire.repetition_penalty, "repeat_last_n": -1}
    return Sampling(**given)


def stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """Stop strings; an empty one would end everything at once, so it is an error."""
    found = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in found:
        raise RequestError("stop: a stop string cannot be empty", param="stop")
    return found


def lane(wire: Generation) -> Lane:
    """`service_tier: flex` is what OpenAI calls a batch lane."""
    match wire.service_tier:
        case "flex":
            return "batch"
        case None | "auto" | "default":
            return "interactive"
        case tier:
            raise Unsupported("service_tier", f"there is no tier {tier!r} here")


def constraint(wire: Generation) -> Constraint | None:
    """The one constraint there is, whichever of its names it came under."""
    found = {
        "response_format": _of_format(wire.response_format),
        "json_schema": _schema(wire.json_schema),
        "guided_json": _schema(wire.guided_json),
        "guided_regex": Regex(pattern=wire.guided_regex) if wire.guided_regex else None,
        "guided_choice": _choice(wire.guided_choice),
        "grammar": Grammar(text=wire.grammar, syntax="gbnf") if wire.grammar else None,
        "guided_grammar": _guided(wire.guided_grammar),
    }
    given = {name: value for name, value in found.items() if value is not None}
    if len(given) > 1:
        names = list(given)
        raise RequestError(f"{names[1]}: {names[0]} is set already; one of them", param=names[1])
    return next(iter(given.values()), None)


def _of_format(wire: ResponseFormat | None) -> Constraint | None:
    match wire:
        case None | TextFormat():
            return None
        case JsonObjectFormat(schema=schema):
            return JsonObject() if schema is None else JsonSchema(schema=schema)
        case JsonSchemaFormat(json_schema=named):
            if named.schema is None:
                where = "response_format.json_schema.schema"
                raise RequestError(f"{where}: this field is required", param=where)
            return JsonSchema(schema=named.schema)
        case RegexFormat(pattern=pattern):
            return Regex(pattern=pattern)
        case GrammarFormat(grammar=text, syntax=syntax):
            return Grammar(text=text, syntax=syntax)


def _schema(schema: dict[str, Any] | bool | None) -> JsonSchema | None:
    return None if schema is None else JsonSchema(schema=schema)


def _choice(choices: list[str] | None) -> Regex | None:
    return Regex(pattern="|".join(map(re.escape, choices))) if choices else None


def _guided(text: str | None) -> Grammar | None:
    """vLLM takes Lark or EBNF; EBNF as xgrammar has it is GBNF, known by its `::=`."""
    if not text:
        return None
    return Grammar(text=text, syntax="gbnf" if "::=" in text else "lark")


def _adapter(one: Lora, where: str) -> Adapter:
    found = [name for name in (one.id, one.name) if name is not None]
    if len(found) != 1:
        raise RequestError(f"{where}: either name or id says which adapter", param=where)
    return Adapter(name=found[0], scale=one.scale)


def _stream_options(wire: Generation) -> None:
    if not wire.stream:
        raise RequestError("stream_options: only with stream: true", param="stream_options")
    if wire.stream_options and wire.stream_options.include_obfuscation:
        raise Unsupported("stream_options.include_obfuscation", "streams are not padded")


def _one_of(wire: Generation, first: str, second: str) -> None:
    if getattr(wire, first) is not None:
        raise RequestError(f"{second}: {first} is set already; one of them", param=second)
