"""The catalog as Anthropic's clients see it, page by page. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from api.dialects.anthropic import answers
from shared.errors import RequestError, Unsupported
from shared.presence import ModelCard

DEFAULT_LIMIT = 20
MOST = 1000


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the list."""

    limit: int = DEFAULT_LIMIT
    after_id: str | None = None
    before_id: str | None = None


def page_of(query: Mapping[str, str]) -> Page:
    """The query's members. Raises Unsupported for others, `beta` apart: the SDK's mark."""
    known = set(Page.__struct_fields__)
    for name in query:
        if name not in known and name != "beta":
            raise Unsupported(name, "there is no such parameter here")
    try:
        limit = int(query.get("limit", DEFAULT_LIMIT))
    except ValueError:
        limit = 0
    if not 1 <= limit <= MOST:
        raise RequestError(f"limit: a number from 1 to {MOST}", param="limit")
    return Page(limit=limit, after_id=query.get("after_id"), before_id=query.get("before_id"))


def listed(cards: Sequence[ModelCard], page: Page) -> answers.Models:
    """One page, newest first, as the vendor sorts."""
    models = [shown(card) for card in sorted(cards, key=lambda card: (-card.created, card.ref))]
    ids = [model.id for model in models]
    first, last = 0, len(models)
    if page.after_id is not None:
        first = _place(ids, page.after_id, "after_id") + 1
    if page.before_id is not None:
        last = _place(ids, page.before_id, "before_id")
        first = max(first, last - page.limit)
    found = models[first:last][: page.limit]
    more = first > 0 if page.before_id is not None else first + len(found) < last
    return answers.Models(
        data=tuple(found),
        has_more=more,
        first_id=found[0].id if found else None,
        last_id=found[-1].id if found else None,
    )


def _place(ids: Sequence[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise RequestError(f"{param}: no model {wanted!r}", param=param)
    return ids.index(wanted)


def shown(card: ModelCard) -> answers.Model:
    """One model."""
    return answers.Model(
        id=card.ref,
        display_name=card.ref,
        created_at=f"{datetime.fromtimestamp(card.created, UTC):%Y-%m-%dT%H:%M:%SZ}",
        max_input_tokens=card.context or None,
        max_tokens=card.context or None,
    )
