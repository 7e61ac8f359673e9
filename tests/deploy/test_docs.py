"""The pages link to files that exist and name endpoints that are served."""

from __future__ import annotations

import re
from pathlib import Path

import fakeredis
import pytest

from api.app import create_app
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_endpoints_of_the_readme_are_served() -> None:
    app = create_app(Settings(), fakeredis.FakeAsyncRedis())
    served = {re.sub(r"\{.*", "{", route.path) for route in app.litestar.routes}
    table = (ROOT / "README.md").read_text().split("## Endpoints")[1].split("\n\n")[1]
    named = re.findall(r"`(?:GET |POST )?(/[^`]+)`", table)
    assert len(named) > 15
    for path in named:
        wanted = re.sub(r"\{.*", "{", path)
        assert wanted in served or any(one.startswith(f"{wanted}/") for one in served), path
