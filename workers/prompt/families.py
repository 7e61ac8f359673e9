"""What model families do differently, as data, and which family a chat template belongs to.

`tools` names a format of workers/text/toolcalls/formats.py. Templates are recognised by markers
that no other family writes; the first row whose signs are all there wins.
"""

from __future__ import annotations

import msgspec


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """`think` are the tags around reasoning; `short_ids` wants tool call ids of 9 characters."""

    name: str
    tools: str = "generic"
    think: tuple[str, str] | None = None
    short_ids: bool = False


class _Row(msgspec.Struct, frozen=True):
    name: str
    tools: str
    signs: tuple[str, ...]
    unless: tuple[str, ...] = ()


HARMONY = "harmony"
ROWS = (
    _Row("gpt-oss", HARMONY, ("<|channel|>", "<|message|>")),
    _Row("deepseek", "deepseek", ("<｜tool▁calls▁begin｜>", "```json")),  # noqa: RUF001
    _Row("deepseek", "deepseek_v31", ("<｜tool▁calls▁begin｜>",)),  # noqa: RUF001
    _Row("kimi", "kimi", ("<|tool_calls_section_begin|>",)),
    _Row("command-r7b", "command_r7b", ("<|START_ACTION|>",)),
    _Row("command-r", "command_r", ("<|CHATBOT_TOKEN|>",)),
    _Row("mistral", "mistral_args", ("[TOOL_CALLS]", "[ARGS]")),
    _Row("mistral", "mistral", ("[TOOL_CALLS]",)),
    _Row("granite", "tool_call_list", ("<|tool_call|>",)),
    _Row("nemotron", "nemotron", ("<TOOLCALL>",)),
    _Row("qwen-xml", "qwen_xml", ("<tool_call>", "<function=", "<parameter=")),
    _Row("hermes", "hermes", ("<tool_call>",), ("<function=", "<arg_key>", "<invoke")),
    _Row("functionary", "functionary", ("<function=",), ("<parameter=", "<tool_call>")),
    _Row("llama4", "pythonic", ("<|python_start|>",)),
    _Row("lfm2", "pythonic", ("<|tool_list_start|>",)),
    _Row("llama3", "llama3", ("<|start_header_id|>", "ipython")),
    _Row("llama3", "llama3", ("<|python_tag|>",)),
)
SHORT_IDS = ("length 9", "== 9", "!= 9")
THINK_TAGS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
)


def detect(template: str) -> Family:
    """The family of a chat template; `generic` for one that fits no row."""
    row = next((row for row in ROWS if _fits(row, template)), None)
    return Family(
        name=row.name if row else "generic",
        tools=row.tools if row else "generic",
        think=_think_tags(template),
        short_ids=row is not None
        and row.name == "mistral"
        and any(sign in template for sign in SHORT_IDS),
    )


def _fits(row: _Row, template: str) -> bool:
    return all(sign in template for sign in row.signs) and not any(
        sign in template for sign in row.unless
    )


def _think_tags(template: str) -> tuple[str, str] | None:
    """Reasoning models' templates name the closing tag: to write it or to cut it from history."""
    return next((tags for tags in THINK_TAGS if tags[1] in template), None)
