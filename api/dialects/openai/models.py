"""The catalog as OpenAI clients see it, with Docker Model Runner's facts beside."""

from __future__ import annotations

from collections.abc import Iterable

from api.dialects.openai import answers as wire
from shared.presence import ModelCard

UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def listed(cards: Iterable[ModelCard]) -> wire.ModelList:
    """The list of models."""
    return wire.ModelList(object="list", data=tuple(map(shown, cards)))


def shown(card: ModelCard) -> wire.Model:
    """One model."""
    return wire.Model(
        id=card.ref,
        object="model",
        created=card.created,
        owned_by="docker",
        dmr=wire.ModelFacts(
            context_window=card.context,
            architecture=card.architecture,
            parameters=_short(card.parameters, UNITS, ""),
            quantization=card.quantization,
            size=_short(card.size, SIZES, "B"),
        ),
    )


def _short(number: int, units: Iterable[tuple[int, str]], rest: str) -> str:
    if not number:
        return ""
    for size, unit in units:
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return f"{number}{rest}"
