"""Which LoRA adapters a step computes with. Pure.

llama.cpp applies adapters to a whole context, not to a sequence, so all rows of one step have the
same set of them, and sets take turns. What was computed with one set says nothing to another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from shared.errors import RequestError
from shared.requests import Adapter

# (name, scale), by name, each once, none with scale 0; empty: the model alone.
AdapterSet = tuple[tuple[str, float], ...]

# A change makes llama.cpp plan its buffers anew: 7 ms, where a small model's step takes 21.
TURN_STEPS = 4


def chosen(wanted: Sequence[Adapter], known: Sequence[str]) -> AdapterSet:
    """The set that a request asks for, of a model with the adapters `known`. Raises RequestError
    for one that is not there, or is named twice."""
    named: dict[str, float] = {}
    for one in wanted:
        name = _name(one.name, known)
        if name in named:
            raise RequestError(f"lora: the adapter {name!r} is named twice", param="lora")
        named[name] = one.scale
    return tuple((name, scale) for name, scale in sorted(named.items()) if scale)


def _name(wanted: str | int, known: Sequence[str]) -> str:
    if isinstance(wanted, int) and 0 <= wanted < len(known):
        return known[wanted]
    if isinstance(wanted, str) and wanted in known:
        return wanted
    there = ", ".join(f"{name!r} (id {n})" for n, name in enumerate(known)) or "none"
    kind = "with the id" if isinstance(wanted, int) else "named"
    raise RequestError(
        f"lora: this model has no adapter {kind} {wanted!r}; it has {there}", param="lora"
    )


class Turns:
    """Whose turn it is: sets that have rows to compute, each for a few steps, round and round."""

    def __init__(self) -> None:
        self._line: list[AdapterSet] = []  # the first computes
        self._left = 0  # steps of its turn

    def next(self, working: Iterable[AdapterSet]) -> AdapterSet:
        """The set of the next step, of those that have work; the model alone when none has."""
        now = dict.fromkeys(working)
        if not self._left or self._line[0] not in now:
            self._line = _after(self._line, now)
            self._left = TURN_STEPS
        self._left -= 1 if self._line else self._left
        return self._line[0] if self._line else ()


def _after(line: list[AdapterSet], now: Collection[AdapterSet]) -> list[AdapterSet]:
    """The line when the first one's turn is over: new ones come before it, and after the others."""
    others = [one for one in line[1:] if one in now]
    new = [one for one in now if one not in line]
    return [*others, *new, *(one for one in line[:1] if one in now)]
