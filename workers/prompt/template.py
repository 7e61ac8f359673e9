"""A model's chat template, compiled once: messages in, prompt text out.

The template comes with the model's file, from a stranger: sandbox.py says what it may not do.
Whatever goes wrong in it is the conversation's or the template's fault: BadTemplate, in its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import meta

from shared.errors import BadTemplate
from workers.prompt.sandbox import LimitError, SafeEnvironment, TemplateError

LIMIT_S = 5.0
LIMIT_CHARS = 1 << 25

CHATML = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
_environment = SafeEnvironment()


class Template:
    """One compiled template. `variables` are the names it reads; rendering is thread-safe."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """BadTemplate when `source` is no Jinja or is too long."""
        self.source = source
        self._markers = {"bos_token": bos, "eos_token": eos}
        try:
            self._compiled = _environment.from_string(source)
            self.variables = frozenset(
                meta.find_undeclared_variables(_environment.parse(source))
            ) - frozenset(_environment.globals)
        except _FAULTS as error:
            raise _refused(error) from error

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        now_s: float,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = True,
        limit_s: float = LIMIT_S,
    ) -> str:
        """The prompt. `now_s` is the date the template may show, in Unix seconds.

        BadTemplate when the template refuses, fails, or takes too much time or text.
        """
        context = {
            **self._markers,
            "strftime_now": lambda form: datetime.fromtimestamp(now_s, UTC).strftime(form),
            **(variables or {}),
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
        }
        pieces = self._compiled.generate(context)
        try:
            return _environment.run(pieces, limit_s=limit_s, limit_chars=LIMIT_CHARS)
        except _FAULTS as error:
            raise _refused(error) from error


# What a template can make Python raise: its own words, ours, and any slip of its author.
_FAULTS = (
    JinjaError,
    TemplateError,
    LimitError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
    SyntaxError,
    AssertionError,
    RuntimeError,
)


def _refused(error: BaseException) -> BadTemplate:
    if isinstance(error, TemplateError):
        return BadTemplate(f"the model's chat template refused: {error}", param="messages")
    if isinstance(error, RecursionError):
        return BadTemplate("the model's chat template failed: it is nested too deep")
    return BadTemplate(f"the model's chat template failed: {str(error)[:500]}", param="messages")
