"""One tool call written as JSON, read as it comes: the name first, arguments as they grow."""

from __future__ import annotations

import json
from typing import Literal

Found = tuple[Literal["call", "arguments"], str]
Step = Literal["more", "last", "past"]

NAME_KEYS = frozenset({"name", "tool_name"})
ARGUMENT_KEYS = frozenset({"arguments", "parameters", "args", "input"})
KNOWN_KEYS = NAME_KEYS | ARGUMENT_KEYS | {"type", "id", "function", "tool_call_id", "call_id"}
MAX_HELD = 64 * 1024
SPACE = frozenset(" \t\r\n")


class ValueEnd:
    """Tells where a JSON value ends, one character at a time, without understanding it."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = False
        self._escaped = False
        self._bare = False

    def step(self, char: str) -> Step:
        """`last`: the value ends with `char`; `past`: it ended before."""
        if self._string:
            return self._in_string(char)
        if char in SPACE or char in ",]}":
            return self._after(char)
        if char == '"':
            self._string = True
        elif char in "{[":
            self._depth += 1
        elif not self._depth:
            self._bare = True
        return "more"

    def _in_string(self, char: str) -> Step:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._string = False
            return "more" if self._depth else "last"
        return "more"

    def _after(self, char: str) -> Step:
        if self._bare and not self._depth:
            return "past"
        if char in "]}":
            self._depth -= 1
            return "last" if self._depth <= 0 else "more"
        return "more"


class JsonCall:
    """Feed text from the call's `{` on; `broken` means this is no call (and nothing was found).

    With `name` given, the JSON is the arguments alone. `names`: calls of others are broken.
    """

    def __init__(self, *, name: str | None = None, names: frozenset[str] | None = None) -> None:
        self.done = False
        self.broken = False
        self._names = names
        self._name = name
        self._said_name = False
        self._state: Literal["open", "key", "in key", "colon", "value", "next"] = (
            "open" if name is None else "value"
        )
        self._only_arguments = name is not None
        self._key = "arguments"
        self._text = ""
        self._value = ValueEnd()
        self._nested = 0
        self._waiting = ""
        self._has_arguments = False
        self._encoded = False

    @property
    def begun(self) -> bool:
        """Whether the name has been given out."""
        return self._said_name

    def feed(self, text: str) -> tuple[list[Found], int]:
        """What was found, and how many characters belong to the call."""
        found: list[Found] = []
        at = 0
        while at < len(text) and not (self.done or self.broken):
            if self._state == "value":
                at += self._in_value(text[at:], found)
            else:
                self._between(text[at], found)
                at += 1
        return found, at

    def _between(self, char: str, found: list[Found]) -> None:
        """Everything in the object but values."""
        if self._state == "in key":
            self._in_key(char)
        elif char in SPACE:
            return
        elif char == "}" and self._state in ("key", "next"):
            self._close(found)
        else:
            self._expect(char)

    def _expect(self, char: str) -> None:
        match self._state, char:
            case "open", "{":
                self._state = "key"
            case "key", '"':
                self._state, self._text = "in key", '"'
            case "colon", ":":
                self._state, self._text, self._value = "value", "", ValueEnd()
            case "next", ",":
                self._state = "key"
            case _:
                self.broken = True

    def _in_key(self, char: str) -> None:
        self._text += char
        if char == '"' and not self._text.endswith('\\"'):
            self._key, self._state = self._text[1:-1], "colon"
            self.broken = self._names is not None and self._key not in KNOWN_KEYS
        elif len(self._text) > 256:
            self.broken = True

    def _in_value(self, text: str, found: list[Found]) -> int:
        """Characters of `text` that were used; ends the value if it ends."""
        start = len(text) - len(text.lstrip()) if not self._text else 0
        if start == len(text):
            return start
        if not self._text and self._key == "function" and text[start] == "{":
            self._nested += 1
            self._state = "key"
            return start + 1
        for at in range(start, len(text)):
            step = self._value.step(text[at])
            if step != "more":
                used = at + 1 if step == "last" else at
                self._take(text[start:used], found)
                self._end_value(found)
                return used
        self._take(text[start:], found)
        return len(text)

    def _take(self, text: str, found: list[Found]) -> None:
        """More of a value: arguments stream, the rest is kept until it is whole."""
        first = not self._text
        self._text += text
        if self._key not in ARGUMENT_KEYS:
            self.broken = len(self._text) > MAX_HELD
            return
        if first:
            self._encoded = text.startswith('"')
        if not self._encoded:
            self._text = self._text[:1]
            self._argue(text, found)

    def _argue(self, text: str, found: list[Found]) -> None:
        self._has_arguments = True
        if self._name is None:
            self._waiting += text
            self.broken = len(self._waiting) > MAX_HELD
            return
        self._say(found)
        if text:
            found.append(("arguments", text))

    def _say(self, found: list[Found]) -> None:
        if not self._said_name and self._name is not None:
            self._said_name = True
            found.append(("call", self._name))
            if self._waiting:
                found.append(("arguments", self._waiting))

    def _end_value(self, found: list[Found]) -> None:
        self._state = "next"
        if self._only_arguments:
            self.done = True
        elif self._key in NAME_KEYS:
            self._named(found)
        elif self._key in ARGUMENT_KEYS and self._encoded:
            self._argue(str(_loads(self._text) or "{}"), found)
        self._text = ""

    def _named(self, found: list[Found]) -> None:
        name = _loads(self._text)
        if isinstance(name, str) and name and (self._names is None or name in self._names):
            self._name = name
            self._say(found)
        else:
            self.broken = True

    def _close(self, found: list[Found]) -> None:
        if self._nested:
            self._nested -= 1
            self._state = "next"
            return
        if self._name is None:
            self.broken = True
            return
        if not self._has_arguments:
            found.append(("arguments", "{}"))
        self.done = True


def _loads(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
