"""Every dialect there is; the first answers where none is named. A new one is a line here."""

from __future__ import annotations

from api.dialects.anthropic.routes import ANTHROPIC
from api.dialects.dialect import Dialect
from api.dialects.dmr.models import MODELS
from api.dialects.dmr.routes import DMR
from api.dialects.ollama.routes import OLLAMA
from api.dialects.openai.routes import OPENAI
from api.dialects.responses.routes import RESPONSES

DIALECTS: tuple[Dialect, ...] = (OPENAI, RESPONSES, ANTHROPIC, OLLAMA, DMR, MODELS)
ROUTERS = tuple(router for dialect in DIALECTS for router in dialect.routers)


def dialect_of(path: str) -> Dialect:
    """Whose 404 a path gets: the dialect with the longest prefix of it, else the first."""
    found = [
        (len(prefix), dialect)
        for dialect in DIALECTS
        for prefix in dialect.paths
        if path == prefix or path.startswith(f"{prefix}/")
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else DIALECTS[0]
