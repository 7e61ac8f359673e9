"""Which paths ask a model for something: what can be preloaded for, and recorded."""

from __future__ import annotations

import re

INFERENCE = re.compile(
    r"/api/(chat|generate|embed|embeddings)"
    r"|(/engines(/[^/]+)?)?(/v1)?"
    r"/(chat/completions|completions|embeddings|rerank|score|responses|messages(/count_tokens)?)"
    r"|/anthropic/v1/messages(/count_tokens)?"
)


def is_inference(method: str, path: str) -> bool:
    """Whether this is a request to a model. `path` is clean."""
    return method == "POST" and INFERENCE.fullmatch(path) is not None
