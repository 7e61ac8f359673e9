"""A Jinja environment for templates from strangers: no attributes, no mutation, no endless work.

Beyond jinja2's immutable sandbox: every loop turn, macro call and function call checks a deadline;
everything that can make a long string out of a short one (operators, filters, string methods) is
bounded before it runs; the output is bounded. What is over a limit raises LimitError.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

from jinja2 import Environment, nodes
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.prompt.metered import GenerationBlock, Metered
from workers.prompt.sandbox_tables import (
    COMPARING_TESTS,
    LOOKING_FILTERS,
    NO_FILTERS,
    STRING_METHODS,
)

MAX_TEMPLATE_CHARS = 1 << 18
MAX_STEPS = 2_000_000
MAX_NUMBER = 10_000
MAX_BITS = 256
MAX_ITEMS = 200_000

LONG_NUMBER = re.compile(r"\d{5}|\*")


class LimitError(Exception):
    """The template wants more time, text or numbers than it may have."""


class TemplateError(Exception):
    """The template called raise_exception."""


_LIGHT = (str, int, float, Undefined)
_PASSED = (Environment, EvalContext, Context)


class _Meter(threading.local):
    """What the render running in this thread may still use."""

    deadline_s: float = 0.0
    steps: int = 0
    chars: int = 0


class SafeEnvironment(ImmutableSandboxedEnvironment):
    """Compile with `from_string`, render with `run`; safe from several threads."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationBlock],
            finalize=self.weighed,
            cache_size=0,
        )
        self._meter = _Meter()
        for name in NO_FILTERS:
            self.filters.pop(name, None)
        self.filters = {name: self._bounded(kind) for name, kind in self.filters.items()}
        for name in COMPARING_TESTS & self.tests.keys():
            self.tests[name] = self._bounded(cast(Callable[..., Any], self.tests[name]))
        self.filters["tojson"] = self.tojson
        self.filters["indent"] = self.indent
        self.globals.pop("lipsum", None)
        self.globals["raise_exception"] = raise_exception

    def run(self, pieces: Iterator[str], *, limit_s: float, limit_chars: int) -> str:
        """All of a render's output. LimitError when it takes too long or grows too long."""
        self._meter.deadline_s = time.monotonic() + limit_s
        self._meter.steps = MAX_STEPS
        self._meter.chars = limit_chars
        out, left = [], limit_chars
        for piece in pieces:
            self.tick()
            left -= len(piece)
            if left < 0:
                raise LimitError(f"its output is longer than {limit_chars} characters")
            out.append(piece)
        return "".join(out)

    def tick(self) -> str:
        """One step of work; the compiled template calls this in every loop and macro."""
        meter = self._meter
        meter.steps -= 1
        if meter.steps < 0 or time.monotonic() > meter.deadline_s:
            raise LimitError("it takes too long")
        return ""

    def glued(self, *values: Any) -> str:
        """The `~` operator."""
        self.tick()
        for value in values:
            self._weigh(value)
        return self._fits("".join(map(str, values)))

    def weighed(self, value: Any) -> Any:
        """`value`, if comparing or hashing it cannot take for ever."""
        self._weigh(value)
        return value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Subscripts; a nested tuple is a key that is dear to hash."""
        return super().getitem(obj, self.weighed(argument))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, with its widths checked."""
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            self._check_format(value.__self__)
            self._weigh([*args, *kwargs.values()])
            return formatted(*args, **kwargs)

        return checked

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise LimitError("its source is too long")
        tree = super()._parse(source, name, filename)
        Metered().visit(tree)
        return tree

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Every call in a template comes through here."""
        self.tick()
        self._check_arguments(args, kwargs)
        if isinstance(getattr(obj, "__self__", None), str):
            self._check_string_call(obj, args)
        elif obj is dict:
            self._weigh(args)
        return super().call(context, obj, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """jinja2's rule; of numbers nothing, of strings only what cannot grow."""
        if isinstance(obj, str):
            return attr in STRING_METHODS
        if isinstance(obj, int | float | bytes):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that can make much out of little."""
        self.tick()
        if operator == "%" and isinstance(left, str):
            self._check_format(left)
            self._weigh(right)
        elif isinstance(left, int) and isinstance(right, int):
            self._check_numbers(operator, left, right)
        elif operator == "*":
            self._check_repeat(left, right)
        elif operator == "+":
            self._check_size(_length(left) + _length(right))
        return super().call_binop(context, operator, left, right)

    def _check_numbers(self, operator: str, left: int, right: int) -> None:
        grown = left.bit_length() * abs(right) if operator == "**" else left.bit_length()
        if max(grown, right.bit_length()) > MAX_BITS:
            raise LimitError("it computes with very large numbers")

    def _check_repeat(self, left: Any, right: Any) -> None:
        times = left if isinstance(left, int) else right
        if isinstance(times, int):
            self._check_size(times * max(_length(left), _length(right)))

    def _check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for value in (*args, *kwargs.values()):
            if isinstance(value, int) and abs(value) > MAX_NUMBER:
                raise LimitError(f"it passes a number over {MAX_NUMBER}")
            if isinstance(value, tuple):
                self._weigh(value)

    def _check_string_call(self, method: Any, args: tuple[Any, ...]) -> None:
        text: str = method.__self__
        match method.__name__, args:
            case "replace", (str() as old, str() as new, *_):
                self._check_size(len(text) + (text.count(old)) * len(new))
            case "join", (values,):
                self._check_join(text, values)

    def _check_join(self, separator: str, values: Any) -> None:
        if isinstance(values, list | tuple):
            self._weigh(values)
            self._check_size(sum(_length(value) + len(separator) for value in values))

    def _check_format(self, text: str) -> None:
        if LONG_NUMBER.search(text) or "{:{" in text:
            raise LimitError("it formats with a very large width")

    def _check_size(self, length: int) -> None:
        if length > self._meter.chars:
            raise LimitError("it makes a text or list that is too long")

    def _fits(self, text: str) -> str:
        self._check_size(len(text))
        return text

    def _weigh(self, value: Any) -> None:
        """Refuse nested values that would print as something huge."""
        if value is None or isinstance(value, _LIGHT):
            return
        self._check_size(weight(value, self._meter.chars))

    def _bounded(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        """A filter with its arguments checked first."""

        @wraps(kind)
        def checked(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            self._check_arguments(args, kwargs)
            if kind.__name__ not in LOOKING_FILTERS:
                self._weigh([value for value in args if not isinstance(value, _PASSED)])
            self._check_filter(kind.__name__, [v for v in args if not isinstance(v, _PASSED)])
            return kind(*args, **kwargs)

        return checked

    def _check_filter(self, name: str, args: list[Any]) -> None:
        match name.removeprefix("sync_"), args:
            case "do_replace", [text, str() as old, str() as new, *_]:
                text = str(text)
                self._check_size(len(text) + (text.count(old)) * len(new))
            case "do_join", [values, *separator]:
                self._check_join(str(separator[0]) if separator else "", values)
            case "do_format", [text, *_]:
                self._check_format(str(text))

    def tojson(
        self,
        value: Any,
        indent: int | None = None,
        ensure_ascii: bool = False,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """JSON as models know it: no HTML escapes, letters as they are."""
        self._weigh(value)
        if indent is not None and not 0 <= indent <= 16:
            raise LimitError("it indents too far")
        return json.dumps(
            value,
            indent=indent,
            ensure_ascii=ensure_ascii,
            separators=(separators[0], separators[1]) if separators else None,
            sort_keys=sort_keys,
        )

    def indent(self, text: str, width: int | str = 4, first: bool = False) -> str:
        """jinja2's filter for plain text, bounded."""
        pad = " " * min(width, 64) if isinstance(width, int) else str(width)[:64]
        lines = str(text).split("\n")
        self._check_size(len(text) + len(lines) * len(pad))
        padded = [pad + line if line else line for line in lines[1:]]
        return "\n".join([pad + lines[0] if first else lines[0], *padded])


def raise_exception(message: str) -> str:
    """What templates call to refuse a conversation."""
    raise TemplateError(str(message)[:1000])


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 1


def weight(value: Any, limit: int) -> int:
    """About how many characters `value` prints as; stops counting soon after `limit`."""
    total, items, waiting = 0, 0, [value]
    while waiting and total <= limit:
        found = waiting.pop()
        items += 1
        total += len(found) if isinstance(found, str) else 2
        if isinstance(found, dict):
            waiting.extend(found.keys())
            waiting.extend(found.values())
        elif isinstance(found, list | tuple):
            waiting.extend(found)
        if items > MAX_ITEMS:
            return limit + 1
    return total
