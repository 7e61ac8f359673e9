"""docs/dialects.md as data: what it says becomes of each field."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

PAGE = Path(__file__).parents[3] / "docs" / "dialects.md"
ROW = re.compile(r"^\| `(\w+)` \| `([\w-]+)` \| (honoured|no effect|refused) \|", re.M)

Field = tuple[str, str]


def table(dialect: str) -> dict[Field, str]:
    """(Struct, field) -> honoured, no effect or refused, of one dialect's section."""
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.M)
    (section,) = [part for part in sections if part.startswith(f"{dialect}\n")]
    return {(struct, field): state for struct, field, state in ROW.findall(section)}


def fields(module: ModuleType) -> dict[Field, Any]:
    """(Struct, field) -> type, of every Struct a dialect reads; of a Struct that extends another,
    only what it adds."""
    found: dict[Field, Any] = {}
    for struct in vars(module).values():
        if isinstance(struct, type) and issubclass(struct, module.Wire):
            for field in msgspec.structs.fields(struct):
                if field.name in inspect.get_annotations(struct):
                    found[struct.__name__, field.encode_name] = field.type
    return found


def of(dialect: str, state: str) -> list[Field]:
    """The fields of one state."""
    return [field for field, is_ in table(dialect).items() if is_ == state]
