"""JSON from strangers: whatever is wrong with it, endless nesting too, is BadJson."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class BadJson(ValueError):
    """Not JSON, not of the expected form, or nested too deep."""


def decode(raw: bytes, kind: type[T] | Any = Any) -> T:
    """`raw` as a value of `kind`. Raises BadJson."""
    try:
        found: T = msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJson(str(error)) from error
    except RecursionError:
        raise BadJson("nested too deep") from None
    return found
