"""How model families write tool calls: a table. reader.py reads it, grammar.py forces it.

Between `openers` and `closers` stands JSON: an object with name and arguments, or a list of such.
With `header` the name stands before the JSON instead, which is then the arguments alone.
"""

from __future__ import annotations

import msgspec

GENERIC_CALL = '{{"name": "{name}", "arguments": {arguments}}}'


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One way to write calls.

    `ignored` markers mean nothing wherever they stand, `inside` ones between opener and JSON.
    `bare`: JSON (or Python, if `python`) at the beginning of an answer is a call too, if it names a
    tool that was given. `code`: what follows an opener may also be a program. `xml`: or a
    `<function=name>` with `<parameter=name>` elements.

    For grammars: `call` is a call with {name} and {arguments}, `between` separates calls, `section`
    stands around all of them, and `many` around them if there may be several; without `parallel`
    a grammar allows one call only.
    """

    name: str
    openers: tuple[str, ...] = ()
    closers: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    header: str = ""
    bare: bool = False
    python: bool = False
    code: bool = False
    xml: bool = False
    call: str = GENERIC_CALL
    between: str = ", "
    section: tuple[str, str] = ("", "")
    many: tuple[str, str] | None = None
    parallel: bool = True

    @property
    def markers(self) -> tuple[str, ...]:
        """All markers a reader of this format looks for."""
        return (*self.openers, *self.closers, *self.ignored)


NAME = r"[\w.:/-]+"
FENCES = ("```json", "```")
FORMATS = {
    found.name: found
    for found in (
        Format(
            name="generic",
            openers=("<tool_call>",),
            closers=("</tool_call>", "```"),
            inside=FENCES,
            bare=True,
            many=("[", "]"),
        ),
        Format(
            name="hermes",
            openers=("<tool_call>",),
            closers=("</tool_call>",),
            call="<tool_call>\n" + GENERIC_CALL + "\n</tool_call>",
            between="\n",
        ),
        Format(
            name="qwen_xml",
            openers=("<tool_call>",),
            closers=("</tool_call>",),
            xml=True,
            call="<tool_call>\n" + GENERIC_CALL + "\n</tool_call>",
            between="\n",
        ),
        Format(
            name="llama3",
            openers=("<|python_tag|>",),
            closers=("<|eom_id|>", "<|eot_id|>"),
            bare=True,
            code=True,
            call='{{"name": "{name}", "parameters": {arguments}}}',
            between="; ",
        ),
        Format(
            name="mistral",
            openers=("[TOOL_CALLS]",),
            header=rf"\s*({NAME})\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*",
            section=("[TOOL_CALLS][", "]"),
        ),
        Format(
            name="mistral_args",
            openers=("[TOOL_CALLS]",),
            header=rf"\s*({NAME})\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?\s*",
            call="[TOOL_CALLS]{name}[ARGS]{arguments}",
            between="",
        ),
        Format(
            name="deepseek",
            openers=("<｜tool▁call▁begin｜>",),  # noqa: RUF001
            closers=("<｜tool▁call▁end｜>", "```"),  # noqa: RUF001
            ignored=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001
            header=rf"\s*(?:function<｜tool▁sep｜>)?({NAME})\s*(?:<｜tool▁sep｜>)?\s*(?:```json)?\s*",  # noqa: RUF001
            call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>",  # noqa: RUF001
            between="\n",
            section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001
        ),
        Format(
            name="deepseek_v31",
            openers=("<｜tool▁call▁begin｜>",),  # noqa: RUF001
            closers=("<｜tool▁call▁end｜>", "```"),  # noqa: RUF001
            ignored=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001
            header=rf"\s*(?:function<｜tool▁sep｜>)?({NAME})\s*(?:<｜tool▁sep｜>)?\s*(?:```json)?\s*",  # noqa: RUF001
            call="<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>",  # noqa: RUF001
            between="",
            section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),  # noqa: RUF001
        ),
        Format(
            name="kimi",
            openers=("<|tool_call_begin|>",),
            closers=("<|tool_call_end|>",),
            ignored=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
            header=rf"\s*(?:functions\.)?({NAME}?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*",
            call="<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{arguments}<|tool_call_end|>",
            between="",
            section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ),
        Format(
            name="command_r7b",
            openers=("<|START_ACTION|>",),
            closers=("<|END_ACTION|>",),
            ignored=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
            call='{{"tool_name": "{name}", "parameters": {arguments}}}',
            section=("<|START_ACTION|>[", "]<|END_ACTION|>"),
        ),
        Format(
            name="command_r",
            openers=("Action:",),
            closers=("```",),
            inside=FENCES,
            call='{{"tool_name": "{name}", "parameters": {arguments}}}',
            section=("Action: ```json\n[", "]\n```"),
        ),
        Format(
            name="tool_call_list",
            openers=("<|tool_call|>", "<tool_call>"),
            closers=("<|/tool_call|>", "</tool_call>"),
            section=("<|tool_call|>[", "]"),
        ),
        Format(
            name="nemotron",
            openers=("<TOOLCALL>",),
            closers=("</TOOLCALL>",),
            section=("<TOOLCALL>[", "]</TOOLCALL>"),
        ),
        Format(
            name="functionary",
            openers=("<function=",),
            closers=("</function>",),
            header=rf"({NAME})>\s*",
            call="<function={name}>{arguments}</function>",
            between="",
        ),
        Format(
            name="pythonic",
            openers=("<|python_start|>", "<|tool_call_start|>"),
            closers=("<|python_end|>", "<|tool_call_end|>"),
            bare=True,
            python=True,
            many=("[", "]"),
        ),
        Format(
            name="harmony",
            openers=("to=functions.",),
            call="<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
            "{arguments}",
            parallel=False,
        ),
    )
}
