"""Names lead where they say, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.model_errors import BadReference
from workers.models.remote.sources import (
    FileSource,
    HubSource,
    OciSource,
    UrlSource,
    is_local,
    source_of,
)
from workers.models.store import names

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (
            "smollm2",
            OciSource(
                ref="ai/smollm2:latest",
                host="docker.io",
                repository="ai/smollm2",
                reference="latest",
            ),
        ),
        (
            "localhost:5000/Foo:V1",
            OciSource(
                ref="localhost:5000/foo:V1",
                host="localhost:5000",
                repository="foo",
                reference="V1",
            ),
        ),
        (
            f"r.example.com/a/b/c@sha256:{HEX}",
            OciSource(
                ref=f"r.example.com/a/b/c@sha256:{HEX}",
                host="r.example.com",
                repository="a/b/c",
                reference=f"sha256:{HEX}",
            ),
        ),
        (
            "hf.co/Org/Repo-GGUF:Q4_K_M",
            HubSource(
                ref="huggingface.co/org/repo-gguf:Q4_K_M",
                repository="Org/Repo-GGUF",
                quantization="Q4_K_M",
            ),
        ),
        (
            "file:/models/My Model.Q4_1.gguf",
            FileSource(ref="ai/my-model.q4_1:latest", path=Path("/models/My Model.Q4_1.gguf")),
        ),
        ("file:///a%20b.gguf", FileSource(ref="ai/a-b:latest", path=Path("/a b.gguf"))),
        (
            f"https://example.com/x/y.gguf#sha256:{HEX}",
            UrlSource(
                ref="ai/y:latest", url="https://example.com/x/y.gguf", digest=f"sha256:{HEX}"
            ),
        ),
        (
            f"http://127.0.0.1:80/y.gguf@sha256:{HEX}",
            UrlSource(ref="ai/y:latest", url="http://127.0.0.1:80/y.gguf", digest=f"sha256:{HEX}"),
        ),
    ],
)
def test_names_lead_to_sources(name: str, source: object) -> None:
    assert source_of(name) == source


@pytest.mark.parametrize(
    "name",
    [
        "",
        HEX,
        f"sha256:{HEX}",
        "../../etc/passwd",
        "ai/../x",
        "a//b",
        "/absolute",
        "ai/x:tag with spaces",
        "ai/x:" + "t" * 129,
        "ai/x:-tag",
        "ai/x?y=1",
        "ai/x#y",
        "ai/%2e%2e/x",
        "user@host/x",
        "ai/x@sha256:short",
        "ai/" + "x" * 300,
        "hf.co/only",
        "hf.co/a/b/c",
        "hf.co/a/b?x",
        "file:relative.gguf",
        "https://example.com/x.gguf",
        f"https://example.com/x.gguf#sha256:{HEX[:-1]}",
        f"http://example.com/x.gguf#sha256:{HEX}",
        f"https://#sha256:{HEX}",
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(BadReference):
        source_of(name)


@pytest.mark.parametrize("name", [HEX[:12], f"ai/x@sha256:{HEX}", "", "../x", "x y"])
def test_not_every_name_can_be_a_tag(name: str) -> None:
    with pytest.raises(BadReference):
        names.taggable(name)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("[::1]:5000", True),
        ("box.local", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("registry.example.com", False),
        ("local", False),
    ],
)
def test_plain_http_only_at_home(host: str, local: bool) -> None:
    assert is_local(host) is local
