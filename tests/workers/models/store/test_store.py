"""The store: tags, reference counts, purge, bundles; DMR's cases C12, C15-C20, C23 and C25."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from shared.model_errors import (
    BadDigest,
    BadReference,
    ModelNotFound,
    NoSpace,
    NotAStore,
    StoreDamaged,
    TagConflict,
)
from tests.workers.models.store.files import add_model, gguf_bytes
from workers.models.gguf import BadModelFile
from workers.models.store import digests
from workers.models.store.blobs import Partial
from workers.models.store.manifest import parse
from workers.models.store.package import Extras, package, repackage
from workers.models.store.store import (
    Action,
    Deleted,
    MissingBlobs,
    Store,
    Untagged,
    open_store,
)
from workers.models.store.sweep import KEEP_S, sweep


def files_of(store: Store) -> list[str]:
    """Everything in the store that is no lock, no index and no folder."""
    found = (path for path in store.root.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(store.root)) for path in found if path.suffix != ".lock")


EMPTY = ["layout.json", "models.json"]


def test_a_model_is_found_by_each_of_its_names(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "smollm2")
    hex_digits = model.id.removeprefix("sha256:")
    for name in (
        "smollm2",
        "smollm2:latest",
        "ai/smollm2",
        "ai/smollm2:latest",
        "docker.io/ai/smollm2",
        "index.docker.io/ai/smollm2:latest",
        f"smollm2@{model.id}",
        f"other/name@{model.id}",
        model.id,
        hex_digits,
        hex_digits[:12],
    ):
        assert store.get(name) == model
    assert model.tags == ("ai/smollm2:latest",)
    assert store.all() == [model]


@pytest.mark.parametrize(
    "name", ["nothing", "smollm2:v2", "test/smollm2", "sha256:" + "0" * 64, "0" * 12, "", "mollm2"]
)
def test_other_names_are_not_found(store: Store, tmp_path: Path, name: str) -> None:
    add_model(store, tmp_path, "smollm2")
    with pytest.raises(ModelNotFound, match="model not found"):
        store.get(name)


def test_only_loose_lookups_take_the_last_segment(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "myorg/model:x")
    assert store.get_loosely("model") == model
    with pytest.raises(ModelNotFound):
        store.get("model")


TARGETS = (
    "new",
    "new:v1",
    "org/new",
    "org/new:v1",
    "docker.io/org/new",
    "registry.example.com/new",
    "localhost:5000/new:v2",
    "index.docker.io/ai/new",
    "a/b/c:d",
)


@pytest.mark.parametrize("target", TARGETS)
def test_a_tag_names_the_same_model(store: Store, tmp_path: Path, target: str) -> None:
    model = add_model(store, tmp_path, "source")
    assert store.tag("ai/source", target) in store.get("source").tags
    assert store.get(target).id == store.get("source").id == model.id


def test_a_tag_moves(store: Store, tmp_path: Path) -> None:
    one = add_model(store, tmp_path, "one", seed="1")
    two = add_model(store, tmp_path, "two", seed="2")
    store.tag("two", "one")
    assert store.get("one").id == two.id
    assert store.get(one.id).tags == ()


def test_tagging_what_is_not_there(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        store.tag("nothing", "new")


@pytest.mark.parametrize("target", ["", "a b", "../x", "sha256:" + "0" * 64, "x:y:z"])
def test_bad_tags_are_refused(store: Store, tmp_path: Path, target: str) -> None:
    model = add_model(store, tmp_path, "m")
    with pytest.raises(BadReference):
        store.tag("m", target)
    assert store.all() == [model]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("by", ["id", "short id", "tag", "digest"])
def test_deleting_a_model_of_one_name(store: Store, tmp_path: Path, by: str, force: bool) -> None:
    model = add_model(store, tmp_path, "m")
    store.bundle("m")
    name = {
        "id": model.id,
        "short id": model.id[7:19],
        "tag": "m",
        "digest": f"m@{model.id}",
    }[by]
    expected: list[Action] = [Untagged("ai/m:latest"), Deleted(model.id)]
    assert store.delete(name, force=force) == expected
    assert files_of(store) == EMPTY


@pytest.mark.parametrize("force", [False, True])
def test_deleting_a_model_without_names(store: Store, tmp_path: Path, force: bool) -> None:
    model = add_model(store, tmp_path, "m")
    store.untag("m")
    assert store.get(model.id).tags == ()
    assert store.delete(model.id, force=force) == [Deleted(model.id)]
    assert files_of(store) == EMPTY


def test_two_names_by_id_conflict(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    store.tag("m", "n")
    before = files_of(store)
    with pytest.raises(TagConflict, match=r"must be forced.*multiple tag references"):
        store.delete(model.id)
    assert files_of(store) == before
    assert store.delete(model.id, force=True) == [
        Untagged("ai/m:latest"),
        Untagged("ai/n:latest"),
        Deleted(model.id),
    ]
    assert files_of(store) == EMPTY


@pytest.mark.parametrize("force", [False, True])
def test_two_names_by_tag_only_untag(store: Store, tmp_path: Path, force: bool) -> None:
    model = add_model(store, tmp_path, "m")
    store.tag("m", "n")
    assert store.delete("m", force=force) == [Untagged("ai/m:latest")]
    assert store.get("n").id == model.id
    assert store.bundle("n").model.exists()


@pytest.mark.parametrize("name", ["nothing", "", "not a name", "sha256:" + "1" * 64])
@pytest.mark.parametrize("force", [False, True])
def test_deleting_what_is_not_there(store: Store, name: str, force: bool) -> None:
    with pytest.raises(ModelNotFound):
        store.delete(name, force=force)


def test_actions_encode_as_clients_read_them() -> None:
    raw = msgspec.json.encode([Untagged("a:b"), Deleted("sha256:x")])
    assert raw == b'[{"Untagged":"a:b"},{"Deleted":"sha256:x"}]'


def test_shared_blobs_stay_for_the_other_model(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    variant = repackage(store, "m", "m:long", context_size=8192)
    assert (variant.config.context_size, model.config.context_size) == (8192, None)
    assert variant.id != model.id
    layers = [parse(store.manifest_raw(each.id)).layers for each in (model, variant)]
    assert layers[0] == layers[1]
    store.delete("m")
    bundle = store.bundle("m:long")
    assert bundle.model.read_bytes() == (tmp_path / "a.gguf").read_bytes()
    assert bundle.context_size == 8192
    store.delete("m:long")
    assert files_of(store) == EMPTY


def test_repackage_without_a_change_is_another_name(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    variant = repackage(store, "m", "n")
    assert variant.config == model.config


def test_repackage_refuses_bad_names_before_anything_else(store: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")
    before = files_of(store)
    with pytest.raises(BadReference):
        repackage(store, "m", "", context_size=5)
    assert files_of(store) == before


def test_purge(store: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m")
    store.bundle("m")
    store.blobs.open_partial("0" * 64).close()
    store.purge()
    assert files_of(store) == EMPTY
    assert store.all() == []
    add_model(store, tmp_path, "m")
    assert store.bundle("m").model.exists()


def test_purge_refuses_other_folders(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "precious").write_text("x")
    with pytest.raises(NotAStore, match=r"layout\.json"):
        Store(tmp_path).purge()
    assert (tmp_path / "blobs" / "precious").read_text() == "x"


def test_old_names_are_read_and_normalised(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    path = store.root / "models.json"
    for old, new in (
        ("hf.co/org/model:latest", "huggingface.co/org/model:latest"),
        ("docker.io/ai/short:v1", "ai/short:v1"),
        ("short", "ai/short:latest"),
    ):
        found = msgspec.json.decode(path.read_bytes())
        found["models"][0]["tags"] = [old]
        path.write_bytes(msgspec.json.encode(found))
        assert store.get(new).id == model.id
        assert store.all()[0].tags == (new,)


def test_the_same_file_has_the_same_id_everywhere(
    store: Store, other: Store, tmp_path: Path
) -> None:
    assert add_model(store, tmp_path, "m").id == add_model(other, tmp_path, "m").id


def test_a_bundle_has_all_parts(store: Store, tmp_path: Path) -> None:
    for name in ("m", "mmproj", "x-00001-of-00002", "x-00002-of-00002"):
        (tmp_path / f"{name}.gguf").write_bytes(gguf_bytes(seed=name))
    (tmp_path / "t.jinja").write_text("{{ messages }}")
    extras = Extras(
        projector=tmp_path / "mmproj.gguf", template=tmp_path / "t.jinja", context_size=512
    )
    package(store, [tmp_path / "m.gguf"], "m", extras=extras)
    bundle = store.bundle("m")
    assert bundle.projector is not None
    assert bundle.projector.read_bytes() == gguf_bytes(seed="mmproj")
    assert bundle.template is not None
    assert bundle.template.read_text() == "{{ messages }}"
    assert (bundle.model.name, bundle.context_size) == ("model.gguf", 512)

    shards = [tmp_path / f"x-0000{at}-of-00002.gguf" for at in (1, 2)]
    package(store, shards, "x")
    model = store.bundle("x").model
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "model-00001-of-00002.gguf",
        "model-00002-of-00002.gguf",
    ]
    assert model.name == "model-00001-of-00002.gguf"


def test_a_part_alone_is_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "part.gguf"
    path.write_bytes(gguf_bytes(**{"split.count": 3}))
    with pytest.raises(BadModelFile, match="3 parts and 1 are here"):
        package(store, [path], "m")
    assert store.all() == []


def test_what_is_no_gguf_is_not_stored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"<html>not a model</html>" * 10)
    with pytest.raises(BadModelFile):
        package(store, [path], "m")
    assert files_of(store) == ["layout.json"]


@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_harmed_blob_is_never_served(store: Store, tmp_path: Path, harm: str) -> None:
    model = add_model(store, tmp_path, "m")
    add_model(store, tmp_path, "fine", seed="b")
    blob = store.blobs.path(parse(store.manifest_raw(model.id)).layers[0].digest)
    if harm == "cut":
        os.truncate(blob, 100)
    else:
        blob.unlink()
    with pytest.raises(StoreDamaged, match="pull it again"):
        store.bundle("m")
    assert store.bundle("fine").model.exists()
    store.delete("m")
    add_model(store, tmp_path, "m")
    assert store.bundle("m").model.read_bytes() == (tmp_path / "a.gguf").read_bytes()


@pytest.mark.parametrize("what", ["manifest", "config"])
def test_one_damaged_model_does_not_hide_the_others(
    store: Store, tmp_path: Path, what: str
) -> None:
    bad = add_model(store, tmp_path, "bad")
    fine = add_model(store, tmp_path, "fine", seed="b")
    config = parse(store.manifest_raw(bad.id)).config.digest
    path = {
        "manifest": store.root / "manifests/sha256" / digests.hex_of(bad.id),
        "config": store.blobs.path(config),
    }[what]
    path.write_bytes(b"{}")
    listed = store.all()
    assert [(each.id, bool(each.damaged)) for each in listed] == [(bad.id, True), (fine.id, False)]
    with pytest.raises((StoreDamaged, BadDigest)):
        store.get("bad")
    store.delete("bad")
    assert store.all() == [fine]


def test_a_damaged_index_says_so(store: Store) -> None:
    (store.root / "models.json").write_text("{")
    with pytest.raises(StoreDamaged, match=r"models\.json is damaged"):
        store.all()


def test_commit_wants_all_blobs_of_the_right_size(
    store: Store, other: Store, tmp_path: Path
) -> None:
    model = add_model(other, tmp_path, "m")
    raw = other.manifest_raw(model.id)
    blobs = tuple(parse(raw).blobs)
    with pytest.raises(MissingBlobs) as missing:
        store.commit(raw, tags=["m"])
    assert missing.value.missing == blobs
    for digest in blobs:
        store.blobs.put(other.blobs.path(digest).read_bytes())
    os.truncate(store.blobs.path(blobs[0]), 5)
    with pytest.raises(MissingBlobs) as missing:
        store.commit(raw, tags=["m"])
    assert missing.value.missing == blobs[:1]
    assert store.all() == []


def test_leftovers_go_after_seven_days(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    store.bundle("m")
    old = store.blobs.new_partial()
    old.append(b"half")
    old.close()
    digest = store.blobs.put(b"a blob no model needs")
    needed = set(files_of(store))
    now_s = store.blobs.path(digest).stat().st_mtime
    assert sweep(store, now_s=now_s + KEEP_S - 60) == []
    assert set(files_of(store)) == needed
    assert len(sweep(store, now_s=now_s + KEEP_S + 60)) == 2
    assert store.bundle("m").model.exists()
    assert not store.blobs.has(digest)
    assert store.get("m") == model


def test_a_partial_someone_writes_does_not_expire(store: Store) -> None:
    key = "a" * 64
    store.blobs.open_partial(key).close()
    with store.blobs.lock(key):
        assert sweep(store, now_s=1e11) == []
    assert len(sweep(store, now_s=1e11)) == 1


def test_opening_a_store_twice_changes_nothing(store: Store, tmp_path: Path) -> None:
    model = add_model(store, tmp_path, "m")
    assert open_store(store.root).all() == [model]


def test_disk_bytes_count_linked_files_once(store: Store, tmp_path: Path) -> None:
    add_model(store, tmp_path, "m", size=1 << 20)
    before = store.disk_bytes()
    store.bundle("m")
    assert before >= 1 << 20
    assert store.disk_bytes() - before < 1 << 16


def test_a_full_disk_says_so(store: Store) -> None:
    partial = Partial(store.blobs, Path("/dev/full"), None)
    with pytest.raises(NoSpace, match="free disk space"):
        partial.append(b"x")
    partial.close()


def test_paths_cannot_be_made_of_anything_but_digests(store: Store) -> None:
    for bad in ("../../etc/passwd", "sha256:../x", "sha256:" + "A" * 64, "0" * 64, ""):
        with pytest.raises(ValueError, match="not a sha256 digest"):
            store.blobs.path(bad)
        with pytest.raises(ValueError, match="not a blob key"):
            store.blobs.partial_path(f"{bad}/x")
