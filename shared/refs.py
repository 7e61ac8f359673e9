"""Model refs: every name a caller may write, as one normal form (`ai/smollm2:latest`).

Rules of Docker Model Runner: default organisation `ai`, default tag `latest`, `hf.co` is
huggingface.co, the name is lower-cased, the tag keeps its case. Docker Hub's host is dropped, so
`docker.io/ai/smollm2:latest` and `smollm2` are the same model.
"""

from __future__ import annotations

import re

DEFAULT_ORGANISATION = "ai"
DEFAULT_TAG = "latest"
HUB_HOSTS = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
MODEL_ID = re.compile(r"(sha256:)?[0-9a-f]{64}|[0-9a-f]{12}")


def normalize(name: str) -> str:
    """The normal form; empty stays empty, an ID or a digest reference stays as it is."""
    name = name.strip()
    if not name or is_id(name):
        return name
    path, tag = split_tag(name)
    path = path.lower()
    if path.startswith("hf.co/"):
        path = "huggingface.co/" + path.removeprefix("hf.co/")
    for host in HUB_HOSTS:
        path = path.removeprefix(host)
    if "/" not in path:
        path = f"{DEFAULT_ORGANISATION}/{path}"
    return path + tag


def split_tag(name: str) -> tuple[str, str]:
    """Path and tag with its separator; the last colon counts only behind the last slash.

    A digest takes the place of a tag: `name:tag@sha256:…` is `name@sha256:…`.
    """
    if "@" in name:
        path, digest = name.split("@", 1)
        return split_tag(path)[0], f"@{digest}"
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, f":{DEFAULT_TAG}"
    return path, f":{tag or DEFAULT_TAG}"


def is_id(name: str) -> bool:
    """Whether this is a model ID: 12 or 64 lower-case hex digits, or sha256: and 64."""
    return MODEL_ID.fullmatch(name) is not None
