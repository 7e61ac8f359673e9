"""Tool calls in a model's text, by a Format: text and calls out, whichever way it is cut.

What begins like a call and is none comes out as the text it was. Whitespace around calls is markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from workers.text.reader import Piece
from workers.text.stops import first_found, longest_overlap
from workers.text.toolcalls.formats import Format
from workers.text.toolcalls.json_call import JsonCall
from workers.text.toolcalls.python_call import list_end, parse_calls
from workers.text.toolcalls.xml_call import START, call_end, parse_call

MAX_HEADER = 300
MAX_WHOLE = 16_384
CODE_TOOLS = ("python", "code_interpreter", "ipython")
JSON_LIST = re.compile(r"\[\s*\{")
BUILTIN = re.compile(r"\s*([\w.-]+)\.call\((.*)\)\s*", re.DOTALL)


class CallReader:
    """`names` are the tools that were given; calls without any markers must name one of them.

    `schemas` of their parameters tell text from numbers in formats that do not.
    """

    thinking = False

    def __init__(
        self,
        form: Format,
        names: frozenset[str],
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._form = form
        self._names = names
        self._schemas = schemas or {}
        self._header = re.compile(form.header) if form.header else None
        self._state: Literal["text", "open", "call", "after", "code"] = "text"
        self._held = ""
        self._raw = ""
        self._end = 0
        self._fresh = True
        self._strict = False
        self._in_list = False
        self._seen = 0
        self._json = JsonCall()

    def feed(self, text: str, end: int) -> Sequence[Piece]:
        """Pieces; see workers.text.reader."""
        self._held += text
        self._end = end
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self, end: int) -> Sequence[Piece]:
        """What is held back: an unfinished call ends, half a marker was text."""
        self._end = end
        pieces: list[Piece] = []
        if self._state == "code":
            self._run(pieces)
        elif self._state == "call" and self._json.begun:
            pieces.append(Piece("called", "", end))
        elif self._state != "after":
            self._say(pieces, self._raw + self._held, end)
        self._held = self._raw = ""
        return pieces

    def _step(self, pieces: list[Piece]) -> bool:
        """One change of state; False when more text is needed."""
        match self._state:
            case "text":
                return self._text(pieces)
            case "open":
                return self._open(pieces)
            case "call":
                return self._call(pieces)
            case "after":
                return self._after(pieces)
            case "code":
                return False

    def _text(self, pieces: list[Piece]) -> bool:
        if self._fresh and self._form.bare:
            found = self._begins()
            if found is not None:
                return found
        markers = (*self._form.openers, *self._form.ignored)
        hit = first_found(self._held, markers)
        if hit is None:
            known = len(self._held) - longest_overlap(self._held, markers)
            said = self._held[:known].rstrip()
            self._say(pieces, said, self._end - len(self._held) + len(said))
            self._held = self._held[len(said) :]
            return False
        before = self._held[: hit[0]]
        self._say(pieces, before.rstrip(), self._end - len(self._held) + len(before))
        self._held = self._held[hit[0] + len(hit[1]) :]
        if hit[1] in self._form.openers:
            self._raw = before[len(before.rstrip()) :] + hit[1]
            self._strict, self._state = False, "open"
        return True

    def _begins(self) -> bool | None:
        """Does the answer begin with a call without markers? None: no."""
        text = self._held.lstrip()
        starts = ("{", "[", *self._form.inside)
        if text.startswith(starts):
            self._strict, self._state = True, "open"
            return True
        return False if not text or any(start.startswith(text) for start in starts) else None

    def _open(self, pieces: list[Piece]) -> bool:
        """After an opener: a list, an object, a header or a program?"""
        text = self._held.lstrip()
        if not text:
            return False
        skipped = next((mark for mark in self._form.inside if text.startswith(mark)), "")
        if any(mark.startswith(text) and mark != text for mark in self._form.inside):
            return False
        if skipped:
            return self._consume(len(self._held) - len(text) + len(skipped))
        space = len(self._held) - len(text)
        if self._form.python and text.startswith("[") and not JSON_LIST.match(text):
            return text.rstrip() != "[" and self._python(pieces, text)
        if text.startswith("[") and not self._in_list:
            self._in_list = True
            return self._consume(space + 1)
        if text.startswith("{"):
            return self._begin(None, space)
        return self._otherwise(pieces, text)

    def _otherwise(self, pieces: list[Piece], text: str) -> bool:
        if self._header is not None and not self._in_list:
            return self._named(pieces, text)
        if self._form.code and not self._strict:
            self._state = "code"
            return False
        if self._form.xml and (text.startswith(START) or START.startswith(text)):
            return self._xml(pieces, text)
        return self._give_back(pieces)

    def _xml(self, pieces: list[Piece], text: str) -> bool:
        """A whole call of elements at once."""
        length = call_end(text)
        if length is None:
            return False if len(text) < MAX_WHOLE else self._give_back(pieces)
        call = parse_call(text[:length], self._schemas)
        if call is None:
            return self._give_back(pieces)
        self._consume(len(self._held) - len(text) + length)
        self._whole(pieces, *call)
        self._raw, self._fresh, self._state = "", False, "after"
        return True

    def _named(self, pieces: list[Piece], text: str) -> bool:
        """The name before the arguments."""
        at = self._held.find("{")
        if at < 0:
            return False if len(text) < MAX_HEADER else self._give_back(pieces)
        match = self._header.fullmatch(self._held[:at]) if self._header else None
        return self._give_back(pieces) if match is None else self._begin(match[1], at)

    def _begin(self, name: str | None, skip: int) -> bool:
        self._consume(skip)
        self._json = JsonCall(name=name, names=self._names if self._strict else None)
        self._state = "call"
        return True

    def _consume(self, count: int) -> bool:
        """Markup, kept to be given back if this turns out to be no call."""
        self._raw += self._held[:count]
        self._held = self._held[count:]
        return bool(self._held)

    def _call(self, pieces: list[Piece]) -> bool:
        found, used = self._json.feed(self._held)
        self._consume(used)
        end = self._end - len(self._held)
        pieces.extend(Piece(kind, text, end) for kind, text in found)
        if self._json.begun:
            self._raw, self._fresh = "", False
        if self._json.done or (self._json.broken and self._json.begun):
            pieces.append(Piece("called", "", end))
            self._state = "after"
            return True
        return self._give_back(pieces) if self._json.broken else False

    def _python(self, pieces: list[Piece], text: str) -> bool:
        """A whole list of Python calls at once."""
        seen, self._seen = self._seen, len(text)
        length = list_end(text) if "]" in text[seen:] else None
        if length is None:
            plain = self._strict and not re.match(r"\[\s*([A-Za-z_][\w.]*(\(|$)|$)", text)
            return self._give_back(pieces) if plain or len(text) > MAX_WHOLE else False
        calls = parse_calls(text[:length])
        if calls is None or (self._strict and not {name for name, _ in calls} <= self._names):
            return self._give_back(pieces)
        self._consume(len(self._held) - len(text) + length)
        self._seen = 0
        for name, arguments in calls:
            self._whole(pieces, name, arguments)
        self._raw, self._fresh, self._state = "", False, "after"
        return True

    def _whole(self, pieces: list[Piece], name: str, arguments: str) -> None:
        end = self._end - len(self._held)
        pieces.append(Piece("call", name, end))
        pieces.append(Piece("arguments", arguments, end))
        pieces.append(Piece("called", "", end))

    def _give_back(self, pieces: list[Piece]) -> bool:
        """No call after all: what was taken for markup is text, and so is what follows."""
        raw, self._raw = self._raw, ""
        if self._strict and not raw:
            raw, self._held = self._held[:1], self._held[1:]
        self._in_list, self._strict, self._state, self._fresh = False, False, "text", False
        self._seen = 0
        self._say(pieces, raw, self._end - len(self._held))
        return bool(self._held)

    def _after(self, pieces: list[Piece]) -> bool:
        """Between calls, or behind the last one."""
        text = self._held = self._held.lstrip()
        if not text:
            return False
        if self._in_list:
            return self._in_list_after(text)
        marker = next((mark for mark in self._form.markers if text.startswith(mark)), "")
        if marker:
            self._raw, self._held = "", text[len(marker) :]
            self._state = "open" if marker in self._form.openers else "after"
            return True
        if any(mark.startswith(text) for mark in self._form.markers):
            return False
        return self._next_bare(text)

    def _in_list_after(self, text: str) -> bool:
        if text[0] == ",":
            self._state, self._held = "open", text[1:]
        elif text[0] == "]":
            self._in_list, self._held = False, text[1:]
        else:
            self._in_list, self._state = False, "text"
        return True

    def _next_bare(self, text: str) -> bool:
        if self._form.bare and text[0] in ";,":
            self._held = text[1:]
        elif self._form.bare and text[0] == "{":
            self._strict, self._state = True, "open"
        else:
            self._state = "text"
        return True

    def _run(self, pieces: list[Piece]) -> None:
        """A program: a call of a built-in tool, a call of the tool for programs, or text."""
        builtin = BUILTIN.fullmatch(self._held)
        calls = parse_calls(f"{builtin[1]}({builtin[2]})") if builtin else None
        runner = next((name for name in CODE_TOOLS if name in self._names), None)
        code, self._held = self._held, ""
        if calls:
            self._whole(pieces, *calls[0])
        elif runner:
            self._whole(pieces, runner, json.dumps({"code": code}, ensure_ascii=False))
        else:
            self._say(pieces, self._raw + code, self._end)

    def _say(self, pieces: list[Piece], text: str, end: int) -> None:
        if text:
            self._fresh = self._fresh and not text.strip()
            pieces.append(Piece("text", text, end))
