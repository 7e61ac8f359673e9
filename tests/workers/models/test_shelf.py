"""One store's models in the catalog of all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shared.presence import ModelCard
from workers.models.shelf import changes

Catalog = dict[str, ModelCard]


def card(digest: str, *names: str, stores: Sequence[str] = ()) -> ModelCard:
    names = names or (f"sha256:{digest * 64}",)
    return ModelCard(
        ref=names[0],
        aliases=names[1:],
        created=0,
        digest=f"sha256:{digest * 64}",
        stores=tuple(stores),
    )


def after(old: Catalog, *mine: ModelCard, store: str = "s", **more: object) -> Catalog:
    """The catalog when the changes are made."""
    todo = changes(old, mine, store=store, **more)  # type: ignore[arg-type]
    kept = {ref: one for ref, one in old.items() if ref not in todo.drop}
    return {**kept, **todo.put}


def of(*cards: ModelCard) -> Catalog:
    return {one.ref: one for one in cards}


def test_a_model_comes_and_goes() -> None:
    there = after({}, card("a", "a:1"))
    assert there == of(card("a", "a:1", stores="s"))
    assert after(there, card("a", "a:1")) == there
    assert after(there) == {}


def test_an_unchanged_catalog_is_not_written() -> None:
    there = after({}, card("a", "a:1", "b:1"))
    todo = changes(there, [card("a", "a:1", "b:1")], store="s")
    assert (todo.put, todo.drop) == ({}, ())


def test_the_ref_stays_while_it_is_a_name() -> None:
    there = after({}, card("a", "a:1"))
    there = after(there, card("a", "b:1", "a:1"))
    assert there == of(card("a", "a:1", "b:1", stores="s"))
    there = after(there, card("a", "b:1"))
    assert there == of(card("a", "b:1", stores="s"))
    there = after(there, card("a"))
    assert there == of(card("a", stores="s"))


def test_a_tag_that_moves() -> None:
    there = after({}, card("a", "a:1"), card("b", "b:1"))
    there = after(there, card("a"), card("b", "b:1", "a:1"))
    assert there == of(card("a", stores="s"), card("b", "b:1", "a:1", stores="s"))


def test_two_stores_share_a_card() -> None:
    there = after({}, card("a", "a:1"))
    there = after(there, card("a", "a:1"), store="t")
    assert there == of(card("a", "a:1", stores="st"))
    there = after(there, card("a", "a:1", "b:1"), store="t")
    assert there == of(card("a", "a:1", "b:1", stores="st"))
    there = after(there, card("a", "a:1"))  # s never knew b:1
    assert there == of(card("a", "a:1", "b:1", stores="st"))
    there = after(there, card("a", "a:1"), store="t", gone={"b:1"})
    assert there == of(card("a", "a:1", stores="st"))
    assert after(there, store="t") == of(card("a", "a:1", stores="s"))


def test_another_version_of_a_name() -> None:
    """The last pull wins; a store that comes back with the old one does not take the name back."""
    there = after({}, card("a", "a:1"))
    there = after(there, card("b", "a:1"), store="t")
    assert there["a:1"] == card("b", "a:1", stores="t")
    back = after(there, card("a", "a:1"), yields=True)
    assert back["a:1"] == card("b", "a:1", stores="t")
    assert back[card("a").ref] == card("a", stores="s")


@pytest.mark.parametrize("yields", [False, True])
def test_a_file_s_name_is_the_stored_model_s_while_there_is_one(yields: bool) -> None:
    file = card("f", "a:1")
    there = after(of(file), card("a", "a:1"), yields=yields)
    assert there == of(card("a", "a:1", stores="s"))
    assert after(of(file), card("a", "b:1")) == of(file, card("a", "b:1", stores="s"))


def test_the_origin_is_kept() -> None:
    from msgspec.structs import replace

    there = after({}, replace(card("a", "a:1"), origin="r/a:1"))
    assert after(there, card("a", "a:1", "b:1"))["a:1"].origin == "r/a:1"
