"""Tool calls written as Python: `[get_weather(city="Paris", days=3)]`."""

from __future__ import annotations

import ast
import json
from typing import Any

WORDS = {"true": True, "false": False, "null": None}
MAX_CHARS = 64 * 1024


def list_end(text: str) -> int | None:
    """Length of the bracketed list that `text` begins with; None while it is not whole."""
    depth, quote, escaped = 0, "", False
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and not escaped
        elif char in "\"'":
            quote = char
        elif char in "[({":
            depth += 1
        elif char in "])}":
            depth -= 1
            if depth == 0:
                return at + 1
    return None


def parse_calls(text: str) -> list[tuple[str, str]] | None:
    """Names and arguments (JSON text) of the calls in a list; None if it is something else."""
    try:
        tree = ast.parse(text[:MAX_CHARS].strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        calls = [_call(node) for node in nodes]
        return calls or None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _call(node: ast.expr) -> tuple[str, str]:
    if not isinstance(node, ast.Call) or node.args or any(not k.arg for k in node.keywords):
        raise ValueError("not a call with named arguments")
    arguments = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    return ast.unparse(node.func), json.dumps(arguments, ensure_ascii=False)


def _value(node: ast.expr) -> Any:
    """A literal, JSON's words included."""
    match node:
        case ast.Name(id=word) if word in WORDS:
            return WORDS[word]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {
                str(ast.literal_eval(key)): _value(value)
                for key, value in zip(keys, values, strict=True)
                if key is not None
            }
        case _:
            return ast.literal_eval(node)
