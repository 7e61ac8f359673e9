"""docs/dialects.md tells the truth about every field of the engine routes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.dialects.dmr import models_types, types
from tests.api.dialects.tables import Field, fields, of, table

PATHS = {"Configure": "/engines/_configure", "Backend": "/engines/install-backend"}
NEEDED = {"Configure": {"model": "smollm2"}, "Backend": {"backend": "llama.cpp"}}
ACCEPTED = {"version": "latest", "mode": "completion"}


def test_every_field_is_in_the_table_and_no_other() -> None:
    written, read = table("DMR"), fields(types) | fields(models_types)
    assert set(written) == set(read)
    typed = {field for field, type_ in read.items() if type_ is Any}
    assert typed == {field for field, state in written.items() if state == "refused"}


@pytest.mark.parametrize("field", of("DMR", "refused"))
async def test_what_is_refused_is_refused_by_name(client: httpx.AsyncClient, field: Field) -> None:
    struct, name = field
    answer = await client.post(PATHS[struct], json=NEEDED[struct] | {name: "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize("field", [one for one in of("DMR", "no effect") if one[0] in PATHS])
async def test_what_has_no_effect_is_one_value(client: httpx.AsyncClient, field: Field) -> None:
    struct, name = field
    for value, good in ((ACCEPTED[name], True), ("other", False)):
        answer = await client.post(PATHS[struct], json=NEEDED[struct] | {name: value})
        assert (answer.status_code < 300) == good
