"""models.json: which models there are and what they are called. Read by anyone, written under lock.

The file's form is Docker Model Runner's, so a store of its can be opened; short and old spellings
of names in it are accepted and written back normalised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared import refs
from shared.model_errors import ModelNotFound, StoreDamaged
from workers.models.store import digests, disk

Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One model: its ID, its names, and every blob it needs (layers, then the config)."""

    id: Digest
    tags: tuple[str, ...] = ()
    files: tuple[Digest, ...] = ()


class Index(msgspec.Struct, frozen=True):
    """All models in the order they came."""

    models: tuple[Entry, ...] = ()

    def find(self, name: str) -> Entry:
        """By tag, by whole ID, by its first 12 digits, or by digest. Raises ModelNotFound."""
        ref = refs.normalize(name)
        digest = ref.rpartition("@")[2]
        for entry in self.models:
            if ref in entry.tags or _is_id_of(digest, entry.id):
                return entry
        raise ModelNotFound.of(name)

    def find_loosely(self, name: str) -> Entry:
        """As `find`; a bare last path segment will do (`smollm2` for `myorg/smollm2:x`)."""
        try:
            return self.find(name)
        except ModelNotFound:
            for entry in self.models:
                if any(_last_segment(tag) == name.strip().lower() for tag in entry.tags):
                    return entry
            raise

    def put(self, entry: Entry) -> Index:
        """With this entry new or replaced; its tags are taken from other models."""
        kept = [
            msgspec.structs.replace(
                other, tags=tuple(tag for tag in other.tags if tag not in entry.tags)
            )
            for other in self.models
        ]
        if all(other.id != entry.id for other in kept):
            return Index((*kept, entry))
        return Index(tuple(entry if other.id == entry.id else other for other in kept))

    def without(self, model_id: str) -> Index:
        """With this model gone."""
        return Index(tuple(entry for entry in self.models if entry.id != model_id))

    @property
    def referenced(self) -> frozenset[str]:
        """Digests some model needs."""
        return frozenset(digest for entry in self.models for digest in entry.files)


def read(path: Path) -> Index:
    """The index at `path`; empty if there is none yet. StoreDamaged if it cannot be read."""
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except FileNotFoundError:
        return Index()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreDamaged(
            f"{path} is damaged ({error}); move it away and load or pull the models again"
        ) from error
    return Index(tuple(_normalised(entry) for entry in index.models))


def write(path: Path, index: Index) -> None:
    """Replace the index. The caller holds the store's lock."""
    disk.write_file(path, msgspec.json.encode(index))


def _normalised(entry: Entry) -> Entry:
    tags = dict.fromkeys(refs.normalize(tag) for tag in entry.tags)
    return msgspec.structs.replace(entry, tags=tuple(tags))


def _is_id_of(text: str, model_id: str) -> bool:
    hex_digits = model_id.removeprefix(digests.PREFIX)
    return text in (model_id, hex_digits, hex_digits[:12])


def _last_segment(tag: str) -> str:
    return refs.split_tag(tag)[0].rpartition("/")[2]
