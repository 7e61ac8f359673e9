"""A request without a prompt loads a model; what would be refused of an answer is refused here."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

TOOL = {"function": {"name": "f"}, "items": 1}


@pytest.mark.parametrize(
    ("path", "more", "named"),
    [
        ("/api/generate", {"steps": 4}, "steps"),
        ("/api/generate", {"options": {"tfs_z": 0.5}}, "options.tfs_z"),
        ("/api/chat", {"tools": [TOOL]}, "tools[0].items"),
    ],
)
async def test_a_load_does_not_swallow_what_is_refused(
    client: httpx.AsyncClient, path: str, more: dict[str, Any], named: str
) -> None:
    answer = await client.post(path, json={"model": "smollm2", **more})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(named)
