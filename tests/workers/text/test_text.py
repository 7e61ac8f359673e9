"""UTF-8, stop strings and reasoning, cut everywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.workers.text.cuts import Meaning, every_cut, same_at_every_cut
from workers.text.reader import PlainReader
from workers.text.reasoning import ThinkReader
from workers.text.stops import StopFilter, tail_overlap
from workers.text.utf8 import Utf8


def decode(pieces: list[bytes]) -> str:
    """All the text of some bytes."""
    utf8 = Utf8()
    return "".join(map(utf8.feed, pieces)) + utf8.flush()


def test_characters_are_whole_wherever_the_bytes_break() -> None:
    data = "aé漢👋🏽.".encode()
    for at in range(len(data)):
        for to in range(at, len(data)):
            assert decode([data[:at], data[at:to], data[to:]]) == data.decode()


def test_bad_bytes_are_one_mark_each() -> None:
    assert decode([b"a\xff", b"b"]) == "a\ufffdb"
    assert decode([b"a\xe6\xbc", b"b"]) == "a\ufffdb"
    assert decode([b"a\xe6", b"\xbc"]) == "a\ufffd"


def test_half_a_character_is_pending() -> None:
    utf8 = Utf8()
    assert utf8.feed(b"\xf0\x9f") == ""
    assert utf8.pending
    assert utf8.feed(b"\x91\x8b") == "👋"
    assert not utf8.pending


@given(st.lists(st.binary(max_size=4), max_size=8))
def test_any_bytes_decode_as_if_they_came_at_once(pieces: list[bytes]) -> None:
    assert decode(pieces) == b"".join(pieces).decode("utf-8", "replace")


def stopped(stops: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    """The text before a stop string, and which it was."""
    found = StopFilter(stops)
    return "".join(map(found.feed, pieces)) + found.flush(), found.found


def test_a_stop_is_found_wherever_the_pieces_break() -> None:
    for pieces in every_cut("one END two"):
        assert stopped(("END",), pieces) == ("one ", "END")


def test_the_stop_that_is_complete_first_wins_wherever_the_pieces_break() -> None:
    for pieces in every_cut("xabcdy"):
        assert stopped(("abcd", "bc", "cdy"), pieces) == ("xa", "bc")
    for pieces in every_cut("xabcy"):
        assert stopped(("bc", "abc"), pieces) == ("x", "abc")


def test_half_a_stop_at_the_end_is_text() -> None:
    for pieces in every_cut("one EN"):
        assert stopped(("END",), pieces) == ("one EN", None)


def test_text_is_held_back_no_longer_than_needed() -> None:
    found = StopFilter(("END",))
    assert found.feed("a E") == "a "
    assert found.held == 1
    assert found.feed("x") == "Ex"


@given(
    text=st.text("ab", max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    cut=st.integers(0, 12),
)
def test_stops_do_not_depend_on_cuts(text: str, stops: list[str], cut: int) -> None:
    whole = stopped(tuple(stops), [text])
    assert stopped(tuple(stops), [text[:cut], text[cut:]]) == whole
    assert stopped(tuple(stops), list(text)) == whole


def test_overlap_is_a_proper_beginning() -> None:
    assert tail_overlap("xEN", "END") == 2
    assert tail_overlap("xEND", "END") == 0
    assert tail_overlap("aaa", "aab") == 2


def think(text: str, *, opened: bool = False) -> list[Meaning]:
    """What all cuts of a text mean to a reasoning model's reader."""
    return same_at_every_cut(
        lambda: ThinkReader("<think>", "</think>", opened=opened, rest=PlainReader()), text
    )


def test_reasoning_is_told_from_the_answer_wherever_the_pieces_break() -> None:
    assert think("<think>\nI see.\n</think>\n\nYes <think>.") == [
        ("reasoning", "I see."),
        ("text", "Yes <think>."),
    ]


def test_reasoning_that_the_prompt_opened() -> None:
    assert think("I see.</think>Yes", opened=True) == [("reasoning", "I see."), ("text", "Yes")]
    assert think("<think>I see.</think>Yes", opened=True) == [
        ("reasoning", "I see."),
        ("text", "Yes"),
    ]


def test_reasoning_that_never_ends() -> None:
    assert think("<think>I see </thi") == [("reasoning", "I see </thi")]
    assert think("I see", opened=True) == [("reasoning", "I see")]


def test_no_reasoning_at_all() -> None:
    assert think("  Yes") == [("text", "  Yes")]
    assert think("<thi") == [("text", "<thi")]
    assert think("<think></think>Yes") == [("text", "Yes")]
    assert think("<think>\n\n</think>\n\nYes") == [("text", "Yes")]
