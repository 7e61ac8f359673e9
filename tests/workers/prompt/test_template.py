"""Templates from strangers: what they may do, and that they cannot do harm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.errors import BadTemplate
from tests.workers.prompt.templates import DATED
from workers.prompt.template import CHATML, Template

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


def render(source: str, messages: list[dict[str, Any]] = HELLO, **variables: Any) -> str:
    """What a template makes of one message."""
    template = Template(source, bos="<s>", eos="</s>")
    return template.render(messages, now_s=0, variables=variables)


def test_models_without_a_template_get_chatml() -> None:
    turns = [{"role": "system", "content": "Be kind."}, *HELLO]
    assert render(CHATML, turns) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


USUAL = {
    "tokens": ("{{ bos_token }}{{ eos_token }}", "<s></s>"),
    "trimmed blocks": ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
    "json": ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
    "indented json": ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
    "loop controls": ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}"
                      "{% endfor %}", "01"),
    "generation": ("{% generation %}x{% endgeneration %}y", "xy"),
    "namespace": ("{% set ns = namespace(n=1) %}{% for i in [1, 2] %}{% set ns.n = ns.n + i %}"
                  "{% endfor %}{{ ns.n }}", "4"),
    "macro": ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) ~ f('a') }}", "[1][a]"),
    "strings": ("{{ ' a b '.strip().split(' ') | join('-') | upper }}", "A-B"),
    "filters": ("{{ [3, 1, 2] | sort | map('string') | join }}{{ 'a' | replace('a', 'b') }}",
                "123b"),
    "indent": ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
    "tests": ("{{ 'a' in ['a'] and x is not defined and 'b' is string }}", "True"),
    "format": ("{{ '%s-%03d' % ('a', 7) }}{{ '{:>3}'.format('b') }}", "a-007  b"),
}  # fmt: skip


@pytest.mark.parametrize("name", USUAL)
def test_what_templates_usually_do_works(name: str) -> None:
    source, wanted = USUAL[name]
    assert render(source) == wanted


def test_the_date_is_the_one_given() -> None:
    template = Template(DATED)
    assert template.render(HELLO, now_s=86_400 * 365) == "1971-01-01 hello"


def test_the_words_of_a_template_reach_the_caller() -> None:
    with pytest.raises(BadTemplate, match="template refused: roles must alternate") as caught:
        render("{{ raise_exception('roles must alternate') }}")
    assert caught.value.param == "messages"


def grow(step: str) -> str:
    """Sixty doublings."""
    return (
        "{% set ns = namespace(x='ab', y=[1, 2], t=(1, 2)) %}{% for i in range(60) %}"
        + step
        + "{% endfor %}"
    )


NESTED = grow("{% set ns.y = [ns.y, ns.y] %}")
TUPLES = grow("{% set ns.t = (ns.t, ns.t) %}")
HOSTILE = {
    "endless loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "long range": "{{ range(10 ** 9) }}",
    "long output": "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
    "string times": "{{ 'a' * 10 ** 10 }}",
    "list times": "{{ ([1] * 10 ** 10) | length }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "squares": "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}"
    "{% endfor %}",
    "doubling by ~": grow("{% set ns.x = ns.x ~ ns.x %}"),
    "doubling by +": grow("{% set ns.x = ns.x + ns.x %}"),
    "doubling lists": grow("{% set ns.y = ns.y + ns.y %}"),
    "replace": grow("{% set ns.x = ns.x.replace('a', 'aaaa') %}"),
    "replace filter": grow("{% set ns.x = ns.x | replace('a', 'aaaa') %}"),
    "join": grow("{% set ns.x = ns.x.join(['', '', '', '']) ~ ns.x %}"),
    "join filter": grow("{% set ns.x = [ns.x, ns.x] | join(ns.x) %}"),
    "format": "{{ '%1000000000d' % 1 }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "format star": "{{ '%*d' % (1000000000, 1) }}",
    "format method": "{{ '{:1000000000}'.format(1) }}",
    "format nested": "{{ '{:{}}'.format(1, 1000000000) }}",
    "center": "{{ 'a'.center(1000000000) }}",
    "padding": "{{ 'a'.ljust(1000000000) }}",
    "nested print": NESTED + "{{ ns.y }}",
    "nested json": NESTED + "{{ ns.y | tojson }}",
    "nested string": NESTED + "{{ ns.y | string }}",
    "nested compare": NESTED + "{% set a = ns.y %}" + NESTED + "{{ a == ns.y }}",
    "nested hash": TUPLES + "{{ {ns.t: 1} | length }}",
    "nested key": TUPLES + "{{ {}[ns.t] }}",
    "nested get": TUPLES + "{{ {}.get(ns.t) }}",
    "nested unique": TUPLES + "{{ [ns.t] | unique | list | length }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "mutation": "{{ messages.append(1) }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "no Jinja": "{{ (",
    "undefined": "{{ a.b.c }}",
    "wrong types": "{{ 1 + 'a' }}",
    "division": "{{ 1 / 0 }}",
    "deep": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "long source": "x" * 300_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_an_error_and_soon(name: str) -> None:
    with pytest.raises(BadTemplate, match="template"):
        Template(HOSTILE[name]).render(HELLO, now_s=0, limit_s=0.2)


@pytest.mark.parametrize("source", ["messages.__class__", "raise_exception.__globals__"])
def test_python_looks_undefined(source: str) -> None:
    assert render("{{ " + source + " }}") == ""


def test_messages_are_left_as_they_were() -> None:
    with pytest.raises(BadTemplate):
        render("{% set _ = messages[0].update({'role': 'x'}) %}")
    assert HELLO == [{"role": "user", "content": "hello"}]


def test_variables_a_template_reads() -> None:
    template = Template("{% if enable_thinking %}{{ messages }}{% endif %}{{ range(2) }}")
    assert template.variables == {"enable_thinking", "messages"}


def test_many_threads_render_alike() -> None:
    template = Template(CHATML)
    chats = [[{"role": "user", "content": "x" * n}] for n in range(200)]
    alone = [template.render(chat, now_s=0) for chat in chats]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda chat: template.render(chat, now_s=0), chats)) == alone
