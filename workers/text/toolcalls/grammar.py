"""Grammars that force a valid tool call, in the format that reader.py understands.

Lark text in llguidance's dialect. Markers that are tokens of their own go in as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from shared.messages import Tool
from shared.requests import Grammar
from workers.text.toolcalls.formats import Format

Special = Callable[[str], int | None]
MARKER = re.compile(r"(<[^<>\s]{1,48}>|\[[A-Z_]+\])")
MOST_CALLS = 16
HOLE = "\0"


def forced_calls(
    form: Format, tools: Sequence[Tool], *, parallel: bool, special: Special
) -> Grammar:
    """At least one call of one of `tools`. `special` gives a marker's own token, if it has one."""
    rules = [_start(form, len(tools), parallel=parallel, special=special)]
    for number, tool in enumerate(tools):
        rules += _call_rules(form, number, tool, special)
    return Grammar(text="\n".join(rules))


def _start(form: Format, count: int, *, parallel: bool, special: Special) -> str:
    several = parallel and form.parallel
    before, after = (_atoms(part, special) for part in form.section)
    between = _atoms(form.between, special)
    more = f" ({between} call){{0,{MOST_CALLS - 1}}}" if several else ""
    start = f"{before} call{more} {after}"
    if several and form.many:
        opening, closing = (_atoms(part, special) for part in form.many)
        start = f"call | {opening} call{more} {closing}"
    return f"start: {start}\ncall: {' | '.join(f'call_{n}' for n in range(count))}"


def _call_rules(form: Format, number: int, tool: Tool, special: Special) -> list[str]:
    name = json.dumps(tool.name, ensure_ascii=False)[1:-1]
    before, after = form.call.format(name=name, arguments=HOLE).split(HOLE)
    schema = tool.parameters if "type" in tool.parameters else {"type": "object", **tool.parameters}
    return [
        f"call_{number}: {_atoms(before, special)} arguments_{number} {_atoms(after, special)}",
        f"arguments_{number}: %json {_json(schema)}",
    ]


def _json(schema: dict[str, Any]) -> str:
    """A schema with as little whitespace as there can be: calls are for programs."""
    options = {"whitespace_pattern": r"[\x20]{1,2}"}
    return json.dumps({"x-guidance": options, **schema}, ensure_ascii=True)


def _atoms(text: str, special: Special) -> str:
    """Literal text as Lark, its markers as tokens where they are."""
    atoms = []
    for part in MARKER.split(text):
        token = special(part) if MARKER.fullmatch(part) else None
        if token is not None:
            atoms.append(f"<[{token}]>")
        elif part:
            atoms.append(json.dumps(part, ensure_ascii=False))
    return " ".join(atoms)
