"""Names a model may be given: the normal form of shared.refs, in the grammar registries accept."""

from __future__ import annotations

import re

from shared import refs
from shared.model_errors import BadReference

MAX_NAME = 255
SEGMENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
HOST = rf"(?:\[::1\]|{LABEL}(?:\.{LABEL})*)(?::[0-9]{{1,5}})?"
PATH = re.compile(rf"(?:{HOST}/)?{SEGMENT}(?:/{SEGMENT})*")
TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST_TAG = re.compile(r"@sha256:[0-9a-f]{64}")


def taggable(name: str) -> str:
    """The normal form of a name that can be a tag. BadReference for IDs, digests and bad names."""
    ref = refs.normalize(name)
    if not ref or refs.is_id(ref) or "@" in ref:
        raise BadReference(
            f"{name!r} cannot be a model's name: use NAME or NAME:TAG", param="model"
        )
    return checked(ref, name)


def checked(ref: str, name: str) -> str:
    """`ref` if its path and tag (or digest) are well formed; BadReference quotes `name`."""
    path, tag = refs.split_tag(ref)
    well_formed = PATH.fullmatch(path) and (TAG.fullmatch(tag) or DIGEST_TAG.fullmatch(tag))
    if not well_formed or len(path) > MAX_NAME:
        raise BadReference(f"invalid model reference {name!r}", param="model")
    return ref
