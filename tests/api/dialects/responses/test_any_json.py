"""Whatever JSON comes, the parser answers with a request or with an error that is the caller's."""

from __future__ import annotations

from contextlib import suppress

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from api import body
from api.dialects.responses import render, types
from shared import codec
from shared.errors import RequestError
from tests.api.dialects.responses.asks import FULL, understood
from tests.api.dialects.test_any_json import JSON, changed, places

decoder = msgspec.json.Decoder(types.CreateResponse)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_one_wrong_value_costs_nothing_else(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(FULL)))
    asked = msgspec.json.encode(changed(FULL, path, data.draw(JSON)))
    with suppress(RequestError):
        wire = body.parse(asked, decoder)
        run = understood(wire)
        assert codec.decode_request(codec.encode_request(run)) == run
        assert render.encode(render.head(wire, run, created=1))
