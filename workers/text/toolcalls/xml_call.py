"""A tool call written as elements: `<function=add><parameter=a>1</parameter></function>`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

START = "<function="
END = "</function>"
CALL = re.compile(r"<function=([^>\n]+)>\s*(.*)</function>", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


def call_end(text: str) -> int | None:
    """Length of the call that `text` begins with; None while it is not whole."""
    at = text.find(END)
    while at >= 0:
        if text[:at].rstrip().endswith(("</parameter>", ">")):
            return at + len(END)
        at = text.find(END, at + 1)
    return None


def parse_call(text: str, schemas: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """Name and arguments (JSON text), each value by its type in the tool's schema; None if bad."""
    match = CALL.fullmatch(text)
    if match is None:
        return None
    name = match[1].strip()
    properties = schemas.get(name, {}).get("properties", {})
    arguments = {
        key.strip(): _value(value, properties.get(key.strip()))
        for key, value in PARAMETER.findall(match[2])
    }
    return name, json.dumps(arguments, ensure_ascii=False)


def _value(text: str, schema: Any) -> Any:
    """What a schema calls a string is one; anything else is JSON if it can be."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
