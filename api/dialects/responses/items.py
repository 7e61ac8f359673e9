"""A response's items: named, numbered and kept as JSON; listed page by page. Pure.

An item's id holds its response's: `msg_<32 hex digits of the response><4 of its place>`. So an
`item_reference` finds its item without an index of items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from api import body
from api.dialects.responses import types as wire
from shared.errors import NotFound, RequestError, Unsupported

T = TypeVar("T")
Json = dict[str, Any]

PREFIX = "resp_"
PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
}
ID = re.compile(r"[a-z]+_(?P<response>[0-9a-f]{32})[0-9a-f]{4}")


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of items."""

    object: str = "list"
    data: tuple[Json, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


def item_id(kind: str, *, response: str, place: int) -> str:
    """The id of a response's item; `place` counts over its input and its output, from 0."""
    return f"{PREFIXES[kind]}{response.removeprefix(PREFIX)}{place:04x}"


def response_of(item: str) -> str | None:
    """The id of the response an item belongs to, None for an id that is not ours."""
    found = ID.fullmatch(item)
    return PREFIX + found["response"] if found else None


def given(asked: wire.CreateResponse, *, response: str) -> list[Json]:
    """The request's input as items with ids. Raises RequestError, Unsupported."""
    if asked.input is None:
        raise RequestError("input is required", param="input")
    if isinstance(asked.input, str):
        listed: list[Json] = [{"role": "user", "content": asked.input}]
    else:
        listed = asked.input
    return [
        _whole(item, f"input[{place}]", response=response, place=place)
        for place, item in enumerate(listed)
    ]


def decoded(item: Json, where: str) -> wire.Item:
    """An item as its Struct. Raises RequestError, Unsupported."""
    return converted(item, wire.Item, where)  # type: ignore[arg-type]


def converted(value: object, kind: type[T], where: str) -> T:
    """Plain JSON as `kind`. Raises RequestError or Unsupported, with the place in `param`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _moved(body.named(error), where) from None


def references(items: Iterable[Json]) -> dict[str, str]:
    """Item id -> response id of the references among these items. Raises RequestError."""
    found = {}
    for place, item in enumerate(items):
        if item["type"] == "item_reference":
            found[item["id"]] = response_of(item["id"]) or _lost(item["id"], place)
    return found


def resolved(items: Sequence[Json], known: Iterable[Json]) -> list[Json]:
    """The items with what references stand for in their place. Raises RequestError."""
    by_id = {item["id"]: item for item in known}
    return [
        (by_id.get(item["id"]) or _lost(item["id"], place))
        if item["type"] == "item_reference"
        else item
        for place, item in enumerate(items)
    ]


def page(items: Sequence[Json], *, after: str | None, limit: int, order: str) -> ItemList:
    """`limit` items in `order` (asc, desc) behind the one called `after`. Raises RequestError."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise RequestError(f"after: there is no item {after!r} here", param="after")
        start = ids.index(after) + 1
    shown = tuple(ordered[start : start + limit])
    return ItemList(
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=start + limit < len(ordered),
    )


def not_found(response: str) -> NotFound:
    """There is no such response, or no longer."""
    return NotFound(f"Response not found: {response!r}")


def _whole(item: Json, where: str, *, response: str, place: int) -> Json:
    """An item with its type, an id and a status, as lists show it."""
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    if kind not in wire.ITEM_TYPES:
        raise Unsupported(f"{where}.type", f"items of type {kind!r} are not supported")
    item = {**item, "type": kind}
    decoded(item, where)
    if kind == "item_reference":
        return item
    if not item.get("id"):
        item["id"] = item_id(kind, response=response, place=place)
    if kind == "message" and isinstance(item["content"], str):
        item["content"] = [_part(item["role"], item["content"])]
    return item if item.get("status") else {**item, "status": "completed"}


def _part(role: str, text: str) -> Json:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def _moved(error: RequestError, where: str) -> RequestError:
    """An error about a part, as one about the whole."""
    if error.param is None:
        return RequestError(f"{where}: {error.message}", param=where)
    dot = "" if error.param.startswith("[") else "."
    param = f"{where}{dot}{error.param}"
    why = error.message.removeprefix(f"{error.param}: ")
    if isinstance(error, Unsupported):
        return Unsupported(param, why)
    return RequestError(f"{param}: {why}", param=param)


def _lost(item: str, place: int) -> Any:
    param = f"input[{place}].id"
    raise RequestError(
        f"{param}: no stored response has an item {item!r}; send the item itself", param=param
    )
