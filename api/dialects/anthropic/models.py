"""The catalog as Anthropic's clients see it, page by page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from api.dialects.anthropic import answers
from shared.errors import RequestError
from shared.presence import ModelCard


class Page(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query: which part of the list. `beta` is the SDK's mark and has no effect."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    after_id: str | None = None
    before_id: str | None = None
    beta: str | None = None


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
