"""Models as tars: what is exported loads, and nothing in a tar leads out of the store."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import CaravanError
from shared.model_errors import BadArchive, ModelNotFound, NoSpace, UnsupportedArtifact
from tests.workers.models.store.files import (
    add_model,
    descriptor,
    modelpack_tar,
    tar_of,
)
from workers.models.store import archive, artifact, digests, disk
from workers.models.store.manifest import parse
from workers.models.store.package import repackage
from workers.models.store.store import Store, open_store

Entry = tuple[str, bytes]


def entries_of(store: Store, name: str, *, prefix: str = "blobs/sha256/") -> list[Entry]:
    """A model as the entries of its tar, manifest last."""
    raw = store.manifest_raw(store.get(name).id)
    blobs = [
        (prefix + digests.hex_of(digest), store.blobs.path(digest).read_bytes())
        for digest in parse(raw).blobs
    ]
    return [*blobs, ("manifest.json", raw)]


def leftovers(store: Store) -> list[str]:
    """Files below the blobs."""
    return [path.name for path in store.blobs.folder.glob("*")]


def test_an_exported_model_loads_untagged(store: Store, other: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m", size=3_000_000)
    model = repackage(store, "m", "m:long", context_size=2048)
    raw = b"".join(archive.export(store, "m:long"))
    loaded = archive.load(other, io.BytesIO(raw))
    assert (loaded.id, loaded.tags, loaded.config.context_size) == (model.id, (), 2048)
    assert other.bundle(loaded.id).model.read_bytes() == (tmp_path / "a.gguf").read_bytes()
    assert len(raw) % tarfile.BLOCKSIZE == 0


def test_the_tar_has_the_documented_form(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive.export(store, "m")))) as tar:
        names = tar.getnames()
        source = tar.extractfile("manifest.json")
        assert source is not None
        assert source.read() == store.manifest_raw(model.id)
    blobs = [
        f"blobs/sha256/{digests.hex_of(each)}" for each in parse(store.manifest_raw(model.id)).blobs
    ]
    assert names == ["blobs", "blobs/sha256", *blobs, "manifest.json"]


def test_loading_twice_is_the_same_model(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    raw = b"".join(archive.export(store, "m"))
    assert archive.load(store, io.BytesIO(raw)) == model
    assert store.all() == [model]


@pytest.mark.parametrize("prefix", ["blobs/sha256/", "manifests/sha256/", "./blobs/sha256/"])
def test_other_writers_layouts(store: Store, other: Store, tmp_path: Path, prefix: str) -> None:
    model = add_model(store, tmp_path, "m")
    entries = entries_of(store, "m", prefix=prefix)
    entries = [entries[-1], ("index.json", b"{}"), *entries[:-1]]
    assert archive.load(other, tar_of(*entries)).id == model.id


def test_a_modelpack_tar_loads(other: Store, store: Store, tmp_path: Path) -> None:
    """C21's CNCF variant, written by hand over the same weights."""
    add_model(store, tmp_path, "m")
    weights = (tmp_path / "a.gguf").read_bytes()
    model = archive.load(other, io.BytesIO(modelpack_tar(weights)))
    assert (model.config.format, model.config.parameters) == ("gguf", "1k")
    assert other.bundle(model.id).model.read_bytes() == weights


def test_a_tar_cut_anywhere_is_an_error_and_leaves_nothing(
    store: Store, other: Store, tmp_path: Path
) -> None:
    model = add_model(store, tmp_path, "m", size=20_000)
    raw = b"".join(archive.export(store, "m"))
    end = raw.rindex(store.manifest_raw(model.id)) + len(store.manifest_raw(model.id))
    for cut in [0, 1, 511, 512, 513, *range(1024, end, 1777), end - 1]:
        with pytest.raises(BadArchive, match="model load interrupted"):
            archive.load(other, io.BytesIO(raw[:cut]))
        assert leftovers(other) == []
    assert other.all() == []


@pytest.mark.parametrize(
    "name",
    [
        "../escape",
        "blobs/../../escape",
        "/etc/escape",
        "blobs/sha256/..",
        "a\\..\\escape",
        "./../x",
    ],
)
def test_paths_that_lead_outside(store: Store, other: Store, tmp_path: Path, name: str) -> None:
    add_model(store, tmp_path, "m")
    with pytest.raises(BadArchive, match="outside itself"):
        archive.load(other, tar_of((name, b"x"), *entries_of(store, "m")))
    assert not list(tmp_path.rglob("*escape*"))
    assert other.all() == []


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_only_plain_files(store: Store, kind: bytes) -> None:
    member = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    member.type = kind
    member.linkname = "/etc/passwd"
    with pytest.raises(BadArchive, match="no plain file"):
        archive.load(store, tar_of(member))


def test_wrong_bytes_are_dropped(store: Store, other: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")
    entries = entries_of(store, "m")
    name, raw = entries[0]
    with pytest.raises(BadArchive, match="wrong bytes"):
        archive.load(other, tar_of((name, raw[:-1] + b"!"), *entries[1:]))
    assert (other.all(), leftovers(other)) == ([], [])


def test_a_missing_blob_is_named(store: Store, other: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")
    missing, *rest = entries_of(store, "m")
    with pytest.raises(BadArchive, match=missing[0].rpartition("/")[2]):
        archive.load(other, tar_of(*rest))
    assert leftovers(other) == []


def test_blobs_that_no_model_needs_are_dropped(store: Store, other: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")
    extra = b"not of this model"
    entry = (f"blobs/sha256/{digests.hex_of(digests.of(extra))}", extra)
    model = archive.load(other, tar_of(entry, *entries_of(store, "m")))
    assert sorted(leftovers(other)) == sorted(
        digests.hex_of(each) for each in parse(other.manifest_raw(model.id)).blobs
    )


def test_other_kinds_of_artifacts_are_refused(store: Store) -> None:
    config = b"{}"
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor(artifact.GGUF, config)],
        }
    )
    blob = (f"blobs/sha256/{digests.hex_of(digests.of(config))}", config)
    with pytest.raises(UnsupportedArtifact):
        archive.load(store, tar_of(blob, ("manifest.json", manifest)))
    assert leftovers(store) == []


def test_headers_that_want_gigabytes_of_memory(store: Store) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        member = tarfile.TarInfo("x")
        member.type = kind
        member.size = 8 << 30
        with pytest.raises(BadArchive, match="header of more than"):
            archive.load(store, io.BytesIO(member.tobuf(format=tarfile.GNU_FORMAT)))


def test_space_is_checked_before_the_bytes(store: Store) -> None:
    member = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
    member.size = 1 << 50
    with pytest.raises(NoSpace):
        archive.load(store, io.BytesIO(member.tobuf(format=tarfile.GNU_FORMAT)))


def test_too_many_entries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    with pytest.raises(BadArchive, match="more than 3"):
        archive.load(store, tar_of(*[(f"x{at}", b"") for at in range(5)]))


def test_export_of_nothing(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        archive.export(store, "nothing")


def test_a_delete_does_not_cut_an_export(store: Store, other: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m", size=3_000_000)
    pieces = archive.export(store, "m")
    store.delete("m")
    assert archive.load(other, io.BytesIO(b"".join(pieces))).id == model.id


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_harmed_tar_is_a_clear_error_or_the_model(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("harmed")
    store, other = open_store(folder / "store"), open_store(folder / "other")
    model = add_model(store, folder, "m", size=400)
    raw = bytearray(b"".join(archive.export(store, "m")))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        archive.load(other, io.BytesIO(raw))
    except CaravanError:
        assert other.all() == []
    for each in other.all():
        assert not each.damaged
        if each.id == model.id:
            assert other.bundle(each.id).model.read_bytes() == (folder / "a.gguf").read_bytes()


def test_disk_rule_keeps_a_reserve(tmp_path: Path) -> None:
    import shutil

    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(NoSpace, match="delete models or free disk space"):
        disk.require_space(tmp_path, free)
