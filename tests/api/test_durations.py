"""`keep_alive` as Docker's and Ollama's clients write it, and as it is written back."""

from __future__ import annotations

import pytest

from api.durations import FOREVER_S, keep_alive_s, written
from shared.errors import RequestError


@pytest.mark.parametrize(
    ("text", "seconds", "back"),
    [
        ("0", 0, "0s"),
        ("-1", FOREVER_S, "-1"),
        ("-1m", FOREVER_S, "-1"),
        ("5m", 300, "5m0s"),
        ("1h", 3600, "1h0m0s"),
        ("30s", 30, "30s"),
        ("24h", 86400, "24h0m0s"),
        ("1h30m", 5400, "1h30m0s"),
        ("300ms", 0.3, "0.3s"),
        ("+90", 90, "1m30s"),
    ],
)
def test_a_duration_is_read_and_written(text: str, seconds: float, back: str) -> None:
    assert keep_alive_s(text) == pytest.approx(seconds)
    assert written(seconds) == back


@pytest.mark.parametrize("text", ["abc", "", "-", "5x", "1m30", " 5m"])
def test_what_is_no_duration_is_refused_by_name(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        keep_alive_s(text)
    assert refused.value.param == "keep_alive"


def test_numbers_are_seconds_and_nothing_is_nothing() -> None:
    assert keep_alive_s(None) is None
    assert (keep_alive_s(7), keep_alive_s(-3)) == (7, FOREVER_S)
