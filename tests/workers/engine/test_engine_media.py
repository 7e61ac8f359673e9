"""Images in a prompt, on the scripted runner, which sees every wrong row and position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.fakes import ScriptedRunner
from tests.workers.engine.desk import Desk
from workers.engine.media import TEXT_ONLY, Layout, Media

Prompt = tuple[tuple[int, ...], tuple[Media, ...]]


def image(look: str, *, name: int = 0, span: int = 0, whole: bool = False) -> Media:
    """An image whose rows look like these letters. With a `span` all rows have one position."""
    count = len(look)
    line = np.arange(count, dtype=np.int32)
    return Media(
        ids=tuple(-1 - 1000 * (name or sum(look.encode())) - n for n in range(count)),
        rows=np.array([[letter, 0] for letter in look.encode()], np.float32),
        places=np.stack([0 * line, line, line, 0 * line]) if span else line[None],
        span=span or count,
        whole=whole,
    )


def prompt(*parts: str | Media) -> Prompt:
    """Text and images in a row."""
    tokens: list[int] = []
    for part in parts:
        tokens += part.encode() if isinstance(part, str) else part.ids
    return tuple(tokens), tuple(part for part in parts if isinstance(part, Media))


def ask(desk: Desk, *parts: str | Media, key: str = "job", **fields: object) -> str:
    """Submit and run; the text."""
    tokens, media = prompt(*parts)
    desk.submit(tokens, key=key, media=media, **fields)
    desk.run()
    return desk.text[key]


KINDS = [{}, {"span": 2}, {"whole": True}, {"span": 3, "whole": True}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("budget", [1, 7, 64])
def test_an_image_is_computed_as_the_rows_it_stands_for(kind: dict[str, int], budget: int) -> None:
    desk = Desk(prefill_budget=budget)
    said = ask(desk, "see ", image("a cat", **kind), " and ", image("a dog", **kind), "?")
    assert said == Desk().answer("see a cat and a dog?")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_images_share_cells_and_others_do_not(kind: dict[str, int]) -> None:
    desk = Desk(prefill_budget=7)
    cats = [ask(desk, "see ", image("a cat", **kind), f"? {n}", key=f"cat {n}") for n in "12"]
    dog = ask(desk, "see ", image("a dog", **kind), "? 1", key="dog")
    assert [*cats, dog] == [Desk().answer(f"see a {it}") for it in ("cat? 1", "cat? 2", "dog? 1")]
    assert [desk.ends[key].cached_tokens for key in ("cat 2", "dog")] == [len("see a cat? "), 4]


@pytest.mark.parametrize("can_cut", [True, False])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_image_whose_asker_left_midway(kind: dict[str, int], can_cut: bool) -> None:
    desk = Desk(ScriptedRunner(can_cut=can_cut), prefill_budget=6)
    tokens, media = prompt("see ", image("an elephant", **kind), "?")
    desk.submit(tokens, key="left", media=media)
    desk.step(2)
    desk.engine.cancel("left")
    assert ask(desk, "see ", image("an elephant", **kind), "?") == Desk().answer("see an elephant?")


def test_choices_share_the_image() -> None:
    desk = Desk(prefill_budget=7)
    said = ask(desk, "see ", image("a cat", span=2), "?", choices=3, max_tokens=4)
    assert said == "".join(letter * 3 for letter in Desk().answer("see a cat?", max_tokens=4))
    assert sum(stats.prefill_rows for stats in desk.stats) == len("see a cat?")


def test_streams_go_on_beside_an_image_within_the_budget() -> None:
    desk = Desk(prefill_budget=4)
    for n in range(3):
        desk.submit(f"text {n}", max_tokens=60)
    desk.step(8)
    tokens, media = prompt("see ", image("x" * 40, span=5), "?")
    desk.submit(tokens, key="seen", media=media)
    desk.run()
    beside = [s for s in desk.stats if s.prefill_rows and s.decode_rows == 3]
    assert sum(stats.prefill_rows for stats in beside) == len("see ") + 40 + 1
    assert max(stats.prefill_rows for stats in beside) == 4
    assert desk.text["seen"] == Desk().answer(f"see {'x' * 40}?")
    assert [desk.text[f"text {n}"] for n in range(3)] == [
        Desk().answer(f"text {n}", max_tokens=60) for n in range(3)
    ]


def test_an_image_that_needs_more_than_the_budget_gets_its_turn() -> None:
    desk = Desk(prefill_budget=4)
    desk.submit("many words before it, which take many steps", key="first", max_tokens=1)
    tokens, media = prompt("see ", image("x" * 40, whole=True), "?")
    desk.submit(tokens, key="seen", media=media)
    for n in range(20):
        desk.submit(f"short {n}", max_tokens=1)
    desk.run()
    assert desk.text["seen"] == Desk().answer(f"see {'x' * 40}?")
    assert max(stats.prefill_rows for stats in desk.stats) >= 40


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cells_run_out_before_an_image(kind: dict[str, int]) -> None:
    desk = Desk(ScriptedRunner(cells=100, slots=3), prefill_budget=16)
    desk.submit("an answer that grows", key="long", max_tokens=70)
    desk.step(3)
    tokens, media = prompt("see ", image("x" * 30, **kind), "?")
    desk.submit(tokens, key="seen", media=media, max_tokens=5)
    desk.run()
    assert desk.text["seen"] == Desk().answer(f"see {'x' * 30}?", max_tokens=5)
    assert {end.kind for end in desk.ends.values()} == {"finished"}


def test_a_refused_decode_is_tried_again() -> None:
    desk = Desk(prefill_budget=7)
    desk.submit("other", max_tokens=20)
    desk.step(2)
    tokens, media = prompt("see ", image("a cat", span=2), "?")
    desk.submit(tokens, key="seen", media=media)
    desk.step()
    desk.runner.refuse = 1
    desk.run()
    assert desk.ends["seen"].kind in ("finished", "preempted")


def test_another_worker_takes_it_up() -> None:
    whole = ask(Desk(), "see ", image("a cat", span=2), "?")
    for cut in range(len(whole)):
        desk = Desk(prefill_budget=3)
        rest = ask(
            desk, "see ", image("a cat", span=2), "?", resumed=(tuple(whole[:cut].encode()),)
        )
        assert rest == whole[cut:]


@pytest.mark.parametrize(
    ("tokens", "media", "why"),
    [
        ((65, -5, 66), (), "not in the vocabulary"),
        (prompt("a", image("cat"))[0], (image("cat"),), "ends in an image"),
        (prompt("a", image("cat"), "b")[0], (image("dog"),), "no place"),
        (prompt("a", image("cat"), "b", image("dog"), "c")[0], (image("cat"),), "without media"),
        (prompt("a", image("x" * 65, whole=True), "b")[0], (image("x" * 65, whole=True),), "batch"),
        (
            prompt("a", image("cat"), "b")[0],
            (Media(ids=image("cat").ids, rows=np.zeros((3, 9)), places=np.zeros((1, 3)), span=3),),
            "another model",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tokens: Sequence[int], media: tuple[Media, ...], why: str
) -> None:
    desk = Desk()
    desk.submit(tokens, key="job", media=media)
    desk.run()
    assert desk.ends["job"].kind == "failed"
    assert why in desk.ends["job"].error


def test_adjacent_images_lag_by_what_they_save() -> None:
    tokens, media = prompt("ab", image("cats", span=1), image("dogs", span=2), "c")
    layout = Layout(tokens, media)
    assert [layout.lag(at) for at in (0, 2, 5, 6, 9, 10)] == [0, 0, 0, 3, 3, 5]
    assert [layout.snapped(at) for at in (1, 2, 3, 6, 8, 10, 11)] == [1, 2, 2, 6, 6, 10, 11]
    assert [layout.stretch(at, 9) for at in (0, 2, 4, 6, 10)] == [2, 4, 2, 4, 9]
    rows = layout.embedded(7, 2)
    assert rows is not None
    assert rows.positions.tolist() == [[3, 3], [4, 5], [4, 5], [0, 0]]
    assert TEXT_ONLY.stretch(5, 9) == 9
    assert layout.rows == 8
