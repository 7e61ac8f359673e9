"""How one store's models stand in the catalog of all. Pure: catalog and own cards in, changes out.

A model is one card, whatever its names: the ref keeps being the name it was first listed under, as
its queue and its loaded copies are called by it. Hosts that share no disk share the card: a store
adds and takes away itself and the names it changed, and leaves the others' alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from shared import refs
from shared.presence import ModelCard


class Changes(msgspec.Struct, frozen=True):
    """Cards to write and refs to take out."""

    put: dict[str, ModelCard] = {}
    drop: tuple[str, ...] = ()


def changes(
    old: Mapping[str, ModelCard],
    mine: Sequence[ModelCard],
    *,
    store: str,
    gone: Collection[str] = (),
    yields: bool = False,
) -> Changes:
    """What to do so that the catalog shows `mine`, all that `store` has.

    `gone` are names that were just taken away on purpose. A store that comes back after a while
    `yields`: names that mean another stored model by now are not its to give.
    """
    if yields:
        mine = [_yielded(card, old) for card in mine]
    earlier = {card.digest: card for card in old.values() if card.digest}
    put = {}
    for card in mine:
        shown = _merged(card, earlier.get(card.digest), store, gone)
        put[shown.ref] = shown
    taken = {name for card in put.values() for name in card.tags}
    rest = [
        (ref, _without(card, put, store, {*taken, *gone}))
        for ref, card in old.items()
        if ref not in put
    ]
    for ref, left in rest:
        if left is not None and left != old[ref]:
            put[left.ref] = left
    drop = tuple(ref for ref, left in rest if left is None or left.ref != ref)
    wanted = {ref: card for ref, card in put.items() if old.get(ref) != card}
    return Changes(wanted, drop)


def named(card: ModelCard, names: Sequence[str]) -> ModelCard:
    """The card under these names, the first its ref; without any its ID."""
    names = tuple(dict.fromkeys(names)) or (card.digest,)
    return replace(card, ref=names[0], aliases=names[1:])


def _yielded(card: ModelCard, old: Mapping[str, ModelCard]) -> ModelCard:
    owner = {name: other for other in old.values() if other.stores for name in other.tags}
    kept = [tag for tag in card.tags if tag not in owner or owner[tag].digest == card.digest]
    return named(card, kept)


def _merged(
    card: ModelCard, before: ModelCard | None, store: str, gone: Collection[str]
) -> ModelCard:
    if before is None or not before.stores:
        return replace(card, stores=(store,))
    others = set(before.stores) - {store}
    theirs = [name for name in before.tags if others and name not in gone]
    names = [*card.tags, *theirs]
    if before.ref in names:
        names.insert(0, before.ref)
    return replace(
        named(card, names),
        stores=tuple(sorted({*others, store})),
        origin=card.origin or before.origin,
    )


def _without(
    card: ModelCard, put: Mapping[str, ModelCard], store: str, taken: Collection[str]
) -> ModelCard | None:
    """An old card that is none of `put`: without this store and the names it gave elsewhere."""
    if store in card.stores:
        rest = tuple(name for name in card.stores if name != store)
        if not rest or any(other.digest == card.digest for other in put.values()):
            return None
        card = replace(card, stores=rest)
    names = [name for name in card.tags if name not in taken]
    if refs.is_id(card.ref) or len(names) == len(card.tags):
        return card
    if not names and not card.stores:  # a file's name that a stored model has now
        return None
    return named(card, names)
