"""No body is more than the caller's error: it is refused, or becomes a job that can be sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import body
from api.dialects.openai import completions, embeddings, parse, ranking
from api.dialects.openai import types as wire
from shared import codec
from shared.errors import RequestError

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
MESSAGE: dict[str, Any] = {"role": "user", "content": "hi"}
NEEDED: dict[type[wire.Wire], dict[str, Any]] = {
    wire.ChatRequest: {"model": "m", "messages": [MESSAGE]},
    wire.CompletionRequest: {"model": "m", "prompt": "hi"},
    embeddings.EmbeddingRequest: {"model": "m", "input": "hi"},
    ranking.RerankRequest: {"model": "m", "query": "q", "documents": ["a"]},
}
PARSERS: dict[type[wire.Wire], Any] = {
    wire.ChatRequest: lambda asked: [parse.chat(asked, job="j")],
    wire.CompletionRequest: lambda asked: completions.parse(asked, job="j"),
    embeddings.EmbeddingRequest: lambda asked: [embeddings.parse(asked, job="j")],
    ranking.RerankRequest: lambda asked: [ranking.rerank(asked, job="j")],
}


def accepted(struct: type[wire.Wire], asked: object) -> bool:
    """Whether the body becomes jobs; then they survive the way to a worker."""
    try:
        read = body.parse(msgspec.json.encode(asked), msgspec.json.Decoder(struct))
        requests = PARSERS[struct](read)
        payloads = [codec.encode_request(request) for request in requests]
    except RequestError:
        return False
    assert list(map(codec.decode_request, payloads)) == requests
    return True


@pytest.mark.parametrize("struct", NEEDED)
def test_what_is_needed_is_enough(struct: type[wire.Wire]) -> None:
    assert accepted(struct, NEEDED[struct])


@pytest.mark.parametrize("struct", NEEDED)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_value_in_any_field(struct: type[wire.Wire], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(msgspec.structs.fields(struct))).encode_name
    accepted(struct, NEEDED[struct] | {field: data.draw(ANY)})


@settings(max_examples=100, deadline=None)
@given(asked=ANY)
def test_any_json(asked: Any) -> None:
    for struct in NEEDED:
        accepted(struct, asked)


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(max_size=40))
def test_any_bytes(junk: bytes) -> None:
    with pytest.raises(RequestError):
        body.parse(junk, msgspec.json.Decoder(wire.ChatRequest))
