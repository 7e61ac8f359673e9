"""Pipeline: events of tokens, their logprobs, and that a replay says the same."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.events import (
    ChoiceEnd,
    Event,
    Logprob,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from workers.text.pipeline import Pipeline, call_id
from workers.text.reader import PlainReader
from workers.text.reasoning import ThinkReader
from workers.text.toolcalls.formats import FORMATS
from workers.text.toolcalls.reader import CallReader


def tools_pipeline(*, one_call: bool = False, stops: tuple[str, ...] = ()) -> Pipeline:
    """Reasoning, then text and hermes calls."""
    reader = ThinkReader(
        "<think>",
        "</think>",
        opened=False,
        rest=CallReader(FORMATS["hermes"], frozenset({"add"})),
    )
    return Pipeline(job="j", choice=1, reader=reader, one_call=one_call, stops=stops)


def chance(number: int) -> Logprob:
    """A recognisable logprob."""
    return Logprob(TokenLogprob(b"", -float(number), number))


def run(pipeline: Pipeline, pieces: Sequence[bytes]) -> list[list[Event]]:
    """Events of each token, and of the flush."""
    out = [list(pipeline.feed(piece, chance(at))) for at, piece in enumerate(pieces)]
    return [*out, list(pipeline.flush())]


def numbers(event: Event) -> list[int]:
    """Which tokens' logprobs an event carries."""
    assert isinstance(event, TextDelta | ReasoningDelta | ToolCallDelta)
    return [logprob.chosen.id for logprob in event.logprobs]


def test_logprobs_of_held_tokens_travel_with_the_later_delta() -> None:
    pipeline = Pipeline(job="j", stops=("END",))
    events = run(pipeline, [b"a", b" E", b"N", b"x", b"\xf0\x9f", b"\x91\x8b", b"!"])
    assert [[(e.text, numbers(e)) for e in step] for step in events] == [
        [("a", [0])],
        [(" ", [])],
        [],
        [("ENx", [1, 2, 3])],
        [],
        [("👋", [4, 5])],
        [("!", [6])],
        [],
    ]


def test_a_stop_string_ends_the_choice_and_is_not_said() -> None:
    pipeline = Pipeline(job="j", stops=("END",))
    events = run(pipeline, [b"one E", b"ND two", b"more"])
    assert [[e.text for e in step] for step in events] == [["one "], [], [], []]
    assert pipeline.end == ChoiceEnd(stop="END")


def test_markup_has_no_events_and_its_logprobs_are_dropped() -> None:
    pipeline = Pipeline(
        job="j",
        reader=ThinkReader("<think>", "</think>", opened=False, rest=PlainReader()),
    )
    events = run(pipeline, [b"<think>", b"Hm", b"</think>", b"\n\n", b"Yes"])
    flat = [event for step in events for event in step]
    assert [(type(e), e.text, numbers(e)) for e in flat] == [
        (ReasoningDelta, "Hm", [1]),
        (TextDelta, "Yes", [4]),
    ]
    assert pipeline.reasoning_tokens == 3


PIECES = [
    b"<think>", b"a", b"</think>", b"\n\n", b"I add.", b"<tool_call>", b'\n{"na', b'me": "add", ',
    b'"arguments": {"a"', b": 1}", b"}\n", b"</tool_call>", b"\n", b"<tool_call>",
    b'{"name": "add", "arguments": {}}', b"</tool_call>",
]  # fmt: skip


def test_a_conversation_with_reasoning_text_and_two_calls() -> None:
    pipeline = tools_pipeline()
    events = [event for step in run(pipeline, PIECES) for event in step]
    first, second = (call_id("j", choice=1, index=index) for index in (0, 1))
    bare = [
        type(event)(
            **{name: getattr(event, name) for name in event.__struct_fields__ if name != "logprobs"}
        )
        for event in events
    ]
    assert bare == [
        ReasoningDelta(text="a", choice=1),
        TextDelta(text="I add.", choice=1),
        ToolCallDelta(index=0, id=first, name="add", choice=1),
        ToolCallDelta(index=0, arguments='{"a"', choice=1),
        ToolCallDelta(index=0, arguments=": 1}", choice=1),
        ToolCallDelta(index=1, id=second, name="add", choice=1),
        ToolCallDelta(index=1, arguments="{}", choice=1),
    ]
    assert first != second
    assert pipeline.end == ChoiceEnd(reason="tool_calls")


def test_one_call_ends_the_choice() -> None:
    pipeline = tools_pipeline(one_call=True)
    events = [event for step in run(pipeline, PIECES) for event in step]
    assert {e.index for e in events if isinstance(e, ToolCallDelta)} == {0}
    assert pipeline.end == ChoiceEnd(reason="tool_calls")


def test_stop_strings_leave_reasoning_and_calls_alone() -> None:
    pipeline = tools_pipeline(stops=("a",))
    events = [event for step in run(pipeline, PIECES) for event in step]
    assert [e.text for e in events if isinstance(e, ReasoningDelta)] == ["a"]
    assert pipeline.end == ChoiceEnd(stop="a")
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["I "]


def test_an_echoed_prompt_comes_first() -> None:
    pipeline = Pipeline(job="j", prefix="Once ")
    assert [e.text for e in pipeline.feed(b"upon")] == ["Once upon"]
    assert [e.text for e in Pipeline(job="j", prefix="Once ").flush()] == ["Once "]


def test_hidden_markers_leave_no_trace() -> None:
    pipeline = Pipeline(job="j", hidden=frozenset({b"<|x|>"}))
    events = run(pipeline, [b"a", b"<|x|>", b"b"])
    assert [[(e.text, numbers(e)) for e in step] for step in events] == [
        [("a", [0])],
        [],
        [("b", [2])],
        [],
    ]


@given(st.lists(st.sampled_from(PIECES), max_size=20), st.integers(0, 20))
def test_a_replay_says_the_same_at_the_same_tokens(pieces: list[bytes], cut: int) -> None:
    undisturbed = run(tools_pipeline(stops=("dd",)), pieces)
    successor = tools_pipeline(stops=("dd",))
    for at, piece in enumerate(pieces[:cut]):
        assert list(successor.feed(piece, chance(at))) == undisturbed[at]
    rest = [list(successor.feed(piece, chance(at))) for at, piece in enumerate(pieces) if at >= cut]
    assert rest == undisturbed[cut:-1]
    assert list(successor.flush()) == undisturbed[-1]


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_every_logprob_is_said_once_at_most_and_in_order(pieces: list[bytes]) -> None:
    events = [event for step in run(tools_pipeline(), pieces) for event in step]
    said = [number for event in events for number in numbers(event)]
    assert said == sorted(set(said))
