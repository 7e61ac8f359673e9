"""Bars of transfers: what is shown of a stream of lines, on a clock of the test's."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from cli.model_client import Layer, Line
from cli.model_views import Bars, Speed

LAYER = "sha256:" + "ab" * 32
SIZE = 100_000_000


class Terminal:
    """Bars whose time the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.progress = Progress(Speed(), disable=True, get_time=lambda: self.now_s)
        self.bars = Bars(self.progress, clock=lambda: self.now_s)

    def show(self, current: int, *, at_s: float) -> str:
        """Take in a line; the speed that is shown then."""
        self.now_s = at_s
        layer = Layer(id=LAYER, size=SIZE, current=current)
        self.bars.show(Line(type="progress", layer=layer, mode="pull"))
        return Speed().render(self.progress.tasks[0]).plain


def test_lines_that_come_together_make_no_speed() -> None:
    terminal = Terminal()
    assert [terminal.show(mib << 20, at_s=0.001 * mib) for mib in range(20)] == [""] * 20
    terminal.show(30_000_000, at_s=1)
    assert terminal.show(40_000_000, at_s=2) == "10.00 MB/s"


def test_a_finished_bar_has_the_speed_of_all_that_came() -> None:
    terminal = Terminal()
    terminal.show(60_000_000, at_s=0)  # of an earlier pull
    assert terminal.show(SIZE, at_s=4) == "10.00 MB/s"
    assert terminal.progress.finished


def test_what_was_there_at_once_has_none() -> None:
    assert Terminal().show(SIZE, at_s=0) == ""


@pytest.mark.parametrize("mode", ["pull", "push"])
def test_a_bar_a_layer(mode: str) -> None:
    terminal = Terminal()
    for id in ("", LAYER, LAYER):
        terminal.bars.show(Line(layer=Layer(id=id, size=5, current=5), mode=mode))
    terminal.bars.show(Line(message="no layer"))
    assert [task.description for task in terminal.progress.tasks] == [mode, "ab" * 6]
