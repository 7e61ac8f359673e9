"""How systems are compared: the same prompts in turns, ratios within a round, no silent absence."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from bench import rounds
from bench.load import Usage, usage_of
from bench.rounds import ABSENT, LLAMA, LOOP, PATH, System


class Fixed(msgspec.Struct, frozen=True):
    """Measured, without measuring."""

    tokens_per_s: float
    ttft_s: tuple[float, ...] = (0.5, 0.1, 0.2)
    prompt_tokens: int = 70


def noting(name: str, asked: list[tuple[str, tuple[int, ...], int]]) -> System:
    async def answer(seeds: Sequence[int], tokens: int) -> Fixed:
        asked.append((name, tuple(seeds), tokens))
        return Fixed(1.0, prompt_tokens=len(name))

    return answer


async def test_a_round_asks_all_the_same_and_each_begins_with_another() -> None:
    asked: list[tuple[str, tuple[int, ...], int]] = []
    systems = {name: noting(name, asked) for name in ("a", "b", "c")}
    await rounds.play(systems, 2, iter(range(100)), tokens=9, rounds=3)
    assert [name for name, _, _ in asked] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [seeds for _, seeds, _ in asked] == [(0, 1)] * 3 + [(2, 3)] * 3 + [(4, 5)] * 3
    assert {tokens for *_, tokens in asked} == {9}


async def test_systems_that_read_other_prompts_are_not_compared() -> None:
    await rounds.warm({"a": noting("a", []), "b": noting("b", [])}, 1, iter(range(9)))
    with pytest.raises(RuntimeError, match="'a': 1, 'longer': 6"):
        await rounds.warm({"a": noting("a", []), "longer": noting("longer", [])}, 1, iter(range(9)))


def test_a_ratio_is_of_one_round() -> None:
    turns = [
        {PATH: Fixed(10.0), LLAMA: Fixed(20.0)},
        {PATH: Fixed(30.0), LLAMA: Fixed(30.0)},
        {PATH: Fixed(40.0), LLAMA: Fixed(10.0)},
    ]
    assert rounds.ratio(turns, PATH, LLAMA, rounds.rate) == ("1.000", "0.500-4.000")
    assert rounds.median(turns, PATH, rounds.rate) == "30.0"


def test_what_is_not_there_says_so() -> None:
    turns = [{LOOP: Fixed(1.0), PATH: Fixed(1.0)}]
    assert rounds.median(turns, LLAMA, rounds.rate) == ABSENT
    assert rounds.ratio(turns, PATH, LLAMA, rounds.rate) == (ABSENT, "")


def test_first_tokens_of_streams() -> None:
    assert rounds.median_ttft_ms(Fixed(1.0)) == 200
    assert rounds.last_ttft_ms(Fixed(1.0)) == 500


CHUNKED = (
    b'4"}}],"usage":null}\n\n\r\n1a\r\ndata: {"choices":[{"delta":{}}]}\n\n\r\n5f\r\n'
    b'data: {"choices":[],"usage":{"completion_tokens":96,"prompt_tokens":70,"total_tokens":166,'
    b'"prompt_tokens_details":{"cached_tokens":8}},"timings":{"cache_n":8}}\n\n\r\n'
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
)


def test_the_usage_at_the_end_of_a_chunked_stream() -> None:
    assert usage_of(CHUNKED) == Usage(prompt_tokens=70, completion_tokens=96)


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        (CHUNKED.replace(b"[DONE]", b""), RuntimeError),
        (CHUNKED.replace(b'"usage"', b'"other"'), ValueError),
    ],
)
def test_a_stream_without_its_end_counts_nothing(tail: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        usage_of(tail)
