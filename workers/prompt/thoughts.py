"""What a request says about reasoning, in the terms of the model that is to answer it."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.errors import Unsupported
from shared.requests import Chat
from workers.engine.thinking import Thinking
from workers.prompt.families import HARMONY
from workers.prompt.model_text import ModelText

SWITCHES = ("enable_thinking", "thinking")
EFFORT = "reasoning_effort"
# Where the template knows no effort, it is a budget, in tokens.
BUDGETS = {"minimal": 0, "low": 1024, "medium": 8192, "high": None}
FINAL = "<|channel|>final<|message|>"
CALL = "<|channel|>commentary"


class Thoughts(msgspec.Struct, frozen=True, kw_only=True):
    """`variables` go to the template, `budget` to the mask; `off` when there shall be none."""

    variables: dict[str, Any]
    budget: int | None
    off: bool


def resolve(chat: Chat, model: ModelText) -> Thoughts:
    """Unsupported where reasoning is asked of a model that has none."""
    asked = chat.thinking
    enabled = _enabled(chat)
    effort = asked.effort
    can = model.family.think is not None or model.family.tools == HARMONY
    if not can:
        if enabled or effort in ("low", "medium", "high"):
            raise Unsupported("thinking", "this model does not reason before it answers")
        return Thoughts(variables={}, budget=None, off=False)
    reads = model.template.variables
    variables: dict[str, Any] = {}
    if enabled is not None:
        variables = {name: enabled for name in SWITCHES if name in reads}
    if effort is not None and EFFORT in reads:
        variables[EFFORT] = "low" if effort == "minimal" else effort
    budget = asked.budget
    if effort is not None and EFFORT not in reads and budget is None:
        budget = BUDGETS[effort]
    return Thoughts(variables=variables, budget=budget, off=enabled is False)


def _enabled(chat: Chat) -> bool | None:
    """The canonical field, or the template option that some clients send instead."""
    option = next((chat.template_options[n] for n in SWITCHES if n in chat.template_options), None)
    return chat.thinking.enabled if option is None else bool(option)


def close(text: str, thoughts: Thoughts, model: ModelText) -> str:
    """The prompt, with its reasoning closed where there shall be none and no switch says so."""
    if not thoughts.off or model.family.think is None:
        return text
    opening, closing = model.family.think
    if text.rstrip().endswith(opening):
        return text.rstrip() + f"\n\n{closing}\n\n"
    switched = any(name in model.template.variables for name in SWITCHES)
    return text if switched else text + f"{opening}\n\n{closing}\n\n"


def opened(text: str, model: ModelText) -> bool:
    """Whether the prompt ends inside the reasoning."""
    return model.family.think is not None and text.rstrip().endswith(model.family.think[0])


def mask_facts(text: str, thoughts: Thoughts, model: ModelText, *, tools: bool) -> Thinking | None:
    """How reasoning and constraints share a choice; None if nothing is to be said about it."""
    if model.family.tools == HARMONY:
        return Thinking(
            opening="<|channel|>",
            closings=(FINAL, CALL) if tools else (FINAL,),
            last=tools,
            force="<|end|><|start|>assistant" + FINAL,
            opened=True,
            budget=thoughts.budget,
        )
    if model.family.think is None or thoughts.off:
        return None
    opening, closing = model.family.think
    return Thinking(
        opening=opening,
        closings=(closing,),
        force=f"\n{closing}",
        opened=opened(text, model),
        budget=thoughts.budget,
    )
