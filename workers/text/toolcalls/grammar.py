"""Grammars that force a valid tool call, in the format that reader.py understands.

Lark text in llguidance's dialect. Markers that are tokens of their own go in as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from shared.messages import Tool
from shared.requests import Grammar
from workers.text.toolcalls.formats import Format

Special = Callable[[str], int | None]
MARKER = re.compile(r"(<[^<>\s]{1,48}>|\[[A-Z_]+\])")
MOST_CALLS = 16
HOLE = "\0"
# Text that no reader of a bare format takes for a call.
PROSE = Grammar(
    text=r"""
start: FREE
FREE: /(.|\n)*/ & ~/\s*(```(json)?\s*)?\[?\s*\{\s*"name"(.|\n)*/
"""
)


def forced_calls(
    form: Format, tools: Sequence[Tool], *, parallel: bool, special: Special
) -> Grammar:
    """At least one call of one of `tools`. `special` gives a marker's own token, if it has one."""
    rules = [_start(form, len(tools), parallel=parallel, special=special)]
    for number, tool in enumerate(tools):
        rules += _call_rules(form, number, tool, special)
    return Grammar(text="\n".join(rules))


def opened_calls(
    form: Format, tools: Sequence[Tool], *, parallel: bool, special: Special
) -> Grammar:
    """The same, behind an opener that the model has just written."""
    text = forced_calls(form, tools, parallel=parallel, special=special).text
    section = _behind(form.section[0], form.openers)
    if section is not None:
        rest = replace(form, section=(section, form.section[1]), many=None)
        return forced_calls(rest, tools, parallel=parallel, special=special)
    firsts = []
    for number, tool in enumerate(tools):
        before, after = (_atoms(part, special) for part in _halves(form, tool))
        firsts.append(f"{before} arguments_{number} {after}")
    start = _start(form, len(tools), parallel=parallel, special=special).splitlines()[0]
    opening = _atoms(form.section[0], special)
    calls = start.removeprefix("start: ").removeprefix(opening).removeprefix(" call")
    return Grammar(text=text.replace(start, f"start: first{calls}\nfirst: {' | '.join(firsts)}", 1))


def _halves(form: Format, tool: Tool) -> tuple[str, str]:
    """A call's text before and behind its arguments, without the opener."""
    before, after = _call(form, tool)
    return _behind(before, form.openers) or before, after


def _behind(text: str, openers: Sequence[str]) -> str | None:
    opener = next((opener for opener in openers if opener in text), None)
    return None if opener is None else text.split(opener, 1)[1]


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
    before, after = _call(form, tool)
    schema = tool.parameters if "type" in tool.parameters else {"type": "object", **tool.parameters}
    return [
        f"call_{number}: {_atoms(before, special)} arguments_{number} {_atoms(after, special)}",
        f"arguments_{number}: %json {_json(schema)}",
    ]


def _call(form: Format, tool: Tool) -> tuple[str, str]:
    """A call's text before and behind its arguments."""
    name = json.dumps(tool.name, ensure_ascii=False)[1:-1]
    before, after = form.call.format(name=name, arguments=HOLE).split(HOLE)
    return before, after


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
