"""What is stored and what it is called. Every change is one replaced index file under one lock.

Order of a change: files first, index last when something comes; index first, files last when
something goes. So a crash leaves at worst files that no model needs, and `sweep` takes those.

 layout.json                    marks the folder as a store
 models.json                    the index
 blobs/sha256/<hex>             layers and configs; <hex>.incomplete on its way
 manifests/sha256/<hex>         raw manifests; the digest is the model's ID
 bundles/sha256/<hex>/          the files an engine opens, hard links to blobs
 locks/                         lock files, empty
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
from filelock import FileLock

from shared import refs
from shared.model_errors import (
    BadDigest,
    ModelNotFound,
    NotAStore,
    StoreDamaged,
    TagConflict,
    UnsupportedArtifact,
)
from workers.models.store import artifact, bundle, digests, disk, index, names
from workers.models.store.artifact import Artifact, ModelConfig
from workers.models.store.blobs import Blobs
from workers.models.store.index import Entry, Index
from workers.models.store.manifest import MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest, parse

LAYOUT = {"version": "1.0.0"}


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the store. `created` is Unix seconds (0 unknown), `size_bytes` all its blobs.

    `damaged` says why a model cannot be used, in the list only; it can still be deleted.
    """

    id: str
    tags: tuple[str, ...]
    created: int = 0
    config: ModelConfig = ModelConfig()
    size_bytes: int = 0
    damaged: str = ""


class Untagged(msgspec.Struct, frozen=True):
    """A name that is gone; encodes as `{"Untagged": ref}`."""

    ref: str = msgspec.field(name="Untagged")


class Deleted(msgspec.Struct, frozen=True):
    """A model that is gone; encodes as `{"Deleted": id}`."""

    id: str = msgspec.field(name="Deleted")


Action = Untagged | Deleted


class MissingBlobs(Exception):
    """A manifest's blobs that are not here (any more): fetch these digests, then commit again."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__(f"{len(missing)} blobs are missing")
        self.missing = missing


class Store:
    """The store below `root`. Made by `open_store`; safe to use from any thread or process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = Blobs(root)
        self._index = root / "models.json"
        self._manifests = root / "manifests" / "sha256"
        self._bundles = root / "bundles" / "sha256"

    # -- reading -------------------------------------------------------------------------------

    def all(self) -> list[StoredModel]:
        """Every model, oldest first."""
        listed = (self._listed(entry) for entry in index.read(self._index).models)
        return [model for model in listed if model]

    def get(self, name: str) -> StoredModel:
        """The model of a tag, an ID or a digest reference. Raises ModelNotFound."""
        return self._stored(index.read(self._index).find(name))

    def get_loosely(self, name: str) -> StoredModel:
        """As `get`, and a bare last path segment is enough."""
        return self._stored(index.read(self._index).find_loosely(name))

    def artifact_of(self, model_id: str) -> Artifact:
        """Manifest and config of a model by its whole ID, parsed and checked."""
        raw = self.manifest_raw(model_id)
        return artifact.read(raw, self.config_raw(parse(raw)))

    def manifest_raw(self, model_id: str) -> bytes:
        """The manifest's exact bytes. StoreDamaged if they are gone or changed."""
        path = self._manifests / digests.hex_of(model_id)
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreDamaged(f"{path} is missing: delete the model and pull it again") from error
        if len(raw) > MAX_MANIFEST_BYTES or digests.of(raw) != model_id:
            raise StoreDamaged(f"{path} changed on disk: delete the model and pull it again")
        return raw

    def config_raw(self, manifest: Manifest) -> bytes:
        """The config blob's bytes."""
        try:
            return self.blobs.read(manifest.config.digest, limit=MAX_CONFIG_BYTES)
        except FileNotFoundError as error:
            raise StoreDamaged(
                f"blob {manifest.config.digest} is missing: delete the model and pull it again"
            ) from error

    def disk_bytes(self) -> int:
        """What the store takes on disk, partial blobs included."""
        return disk.tree_bytes(self.root)

    def _stored(self, entry: Entry) -> StoredModel:
        try:
            found = self.artifact_of(entry.id)
        except StoreDamaged:
            if all(other.id != entry.id for other in index.read(self._index).models):
                raise ModelNotFound.of(entry.id) from None  # deleted since the index was read
            raise
        return StoredModel(
            id=entry.id,
            tags=entry.tags,
            created=found.created,
            config=found.config,
            size_bytes=found.manifest.total_bytes,
        )

    def _listed(self, entry: Entry) -> StoredModel | None:
        """One bad model must not hide the others; None if it was deleted meanwhile."""
        try:
            return self._stored(entry)
        except ModelNotFound:
            return None
        except (StoreDamaged, BadDigest, UnsupportedArtifact) as error:
            return StoredModel(id=entry.id, tags=entry.tags, damaged=error.message)

    # -- coming --------------------------------------------------------------------------------

    def commit(self, manifest_raw: bytes, *, tags: Iterable[str] = ()) -> StoredModel:
        """Make a model whose blobs are all here; its new tags leave other models.

        MissingBlobs when some are not here, UnsupportedArtifact when it cannot be run.
        """
        wanted = tuple(names.taggable(tag) for tag in tags)
        manifest = parse(manifest_raw)
        with self._lock():
            missing = tuple(
                blob.digest
                for blob in manifest.blobs.values()
                if not self.blobs.has(blob.digest, blob.size)
            )
            if missing:
                raise MissingBlobs(missing)
            artifact.read(manifest_raw, self.config_raw(manifest))
            return self._stored(self._add(manifest_raw, manifest, wanted))

    def _add(self, raw: bytes, manifest: Manifest, tags: tuple[str, ...]) -> Entry:
        model_id = digests.of(raw)
        self._manifests.mkdir(parents=True, exist_ok=True)
        disk.write_file(self._manifests / digests.hex_of(model_id), raw)
        present = index.read(self._index)
        old = next((entry.tags for entry in present.models if entry.id == model_id), ())
        entry = Entry(
            id=model_id, tags=tuple(dict.fromkeys((*old, *tags))), files=tuple(manifest.blobs)
        )
        index.write(self._index, present.put(entry))
        return entry

    def drop_orphans(self, digests_: Iterable[str]) -> None:
        """Remove those of these blobs that no model needs: the rest of a failed load."""
        with self._lock():
            for digest in set(digests_) - index.read(self._index).referenced:
                self.blobs.path(digest).unlink(missing_ok=True)

    # -- names ---------------------------------------------------------------------------------

    def tag(self, name: str, target: str) -> str:
        """Give a model another name, taken from whoever had it; the name's normal form."""
        ref = names.taggable(target)
        with self._lock():
            present = index.read(self._index)
            entry = present.find_loosely(name)
            tags = tuple(dict.fromkeys((*entry.tags, ref)))
            index.write(self._index, present.put(msgspec.structs.replace(entry, tags=tags)))
        return ref

    def untag(self, name: str) -> Untagged:
        """Take one name away; the model stays, even without names. Raises ModelNotFound."""
        ref = refs.normalize(name)
        with self._lock():
            present = index.read(self._index)
            entry = present.find(name)
            if ref not in entry.tags:
                raise ModelNotFound.of(name)
            index.write(self._index, present.put(_without_tag(entry, ref)))
        return Untagged(ref)

    # -- going ---------------------------------------------------------------------------------

    def delete(self, name: str, *, force: bool = False) -> list[Action]:
        """Untag, and delete the model when that was its last name; what was done, in order.

        By ID or digest the model goes with all its names; more than one name needs `force`
        (TagConflict). Blobs that other models need stay. Raises ModelNotFound.
        """
        ref = refs.normalize(name)
        with self._lock():
            present = index.read(self._index)
            entry = present.find(name)
            if ref in entry.tags and len(entry.tags) > 1:
                index.write(self._index, present.put(_without_tag(entry, ref)))
                return [Untagged(ref)]
            if len(entry.tags) > 1 and not force:
                raise TagConflict(
                    f"unable to delete {name!r} (must be forced) due to multiple tag references: "
                    f"resource conflict; its tags are {', '.join(entry.tags)}"
                )
            self._remove(present, entry)
        return [*(Untagged(tag) for tag in entry.tags), Deleted(entry.id)]

    def _remove(self, present: Index, entry: Entry) -> None:
        rest = present.without(entry.id)
        index.write(self._index, rest)
        self._drop_files(entry.id)
        for digest in set(entry.files) - rest.referenced:
            self.blobs.path(digest).unlink(missing_ok=True)

    def _drop_files(self, model_id: str) -> None:
        hex_digits = digests.hex_of(model_id)
        (self._manifests / hex_digits).unlink(missing_ok=True)
        shutil.rmtree(self._bundles / hex_digits, ignore_errors=True)

    def purge(self) -> None:
        """Remove every model and partial blob. NotAStore, and nothing removed, if it is none."""
        if not (self.root / "layout.json").is_file():
            raise NotAStore(f"{self.root} has no layout.json, so it is no model store: not purged")
        with self._lock():
            index.write(self._index, Index())
            for folder in ("bundles", "manifests", "blobs"):
                shutil.rmtree(self.root / folder, ignore_errors=True)

    # -- for the engine ------------------------------------------------------------------------

    def bundle(self, name: str) -> bundle.Bundle:
        """The files an engine opens, complete and of the right size; StoreDamaged otherwise."""
        with self._lock():
            model = self.get(name)
            folder = self._bundles / digests.hex_of(model.id)
            return bundle.make(folder, self.artifact_of(model.id), self.blobs)

    def _lock(self) -> FileLock:
        return disk.lock(self.root / "locks" / "store.lock")


def open_store(root: Path) -> Store:
    """The store at `root`, made if the folder is new or empty."""
    root.mkdir(parents=True, exist_ok=True)
    store = Store(root)
    with disk.lock(root / "locks" / "store.lock"):
        if not (root / "layout.json").exists():
            disk.write_file(root / "layout.json", msgspec.json.encode(LAYOUT))
    return store


def _without_tag(entry: Entry, ref: str) -> Entry:
    return msgspec.structs.replace(entry, tags=tuple(tag for tag in entry.tags if tag != ref))
