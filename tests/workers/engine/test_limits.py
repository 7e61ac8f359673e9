"""Values that would harm the library are refused by name, everything sensible passes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shared.errors import RequestError
from shared.requests import Sampling
from tests.workers.engine.desk import Desk
from workers.engine.limits import check


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0.0, "top_k": 0, "top_p": 0.0, "top_n_sigma": -1.0},
        {"temperature": 2.0, "presence_penalty": -2.0, "frequency_penalty": 2.0},
        {"repeat_last_n": -1, "dry_penalty_last_n": -1, "dry_multiplier": 0.8},
        {"logit_bias": {0: -100.0, 99: 100.0}},
    ],
)
def test_sensible_values_pass(fields: dict[str, Any]) -> None:
    check(Sampling(**fields), n_vocab=100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", math.nan),
        ("temperature", -1.0),
        ("top_p", math.inf),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", -1.5),
        ("presence_penalty", math.inf),
        ("frequency_penalty", 1e30),
        ("repeat_last_n", -7),
        ("top_k", 2**31),
        ("dry_base", math.nan),
        ("dry_sequence_breakers", ("",)),
        ("dry_sequence_breakers", ("a",) * 17),
        ("dry_sequence_breakers", ("x" * 41,)),
        ("dry_sequence_breakers", ("a\0b",)),
        ("logit_bias", {100: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {5: math.nan}),
    ],
)
def test_harmful_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check(Sampling(**{field: value}), n_vocab=100)
    assert caught.value.param == field
    assert field in caught.value.message


def test_the_engine_refuses_what_slipped_through() -> None:
    desk = Desk()
    desk.submit("bad", sampling=Sampling(temperature=math.nan))
    desk.submit("good", max_tokens=2)
    desk.run()
    assert desk.ends["bad"].kind == "failed"
    assert "temperature" in desk.ends["bad"].error
    assert desk.ends["good"].kind == "finished"
