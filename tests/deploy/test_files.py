"""What the files outside the code promise: compose, images, locks, targets, packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DEFAULTS = {name: default for name, default, _ in settings.table()}
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


def test_compose_sets_only_variables_that_exist() -> None:
    names = {name for service in SERVICES.values() for name in service.get("environment", ())}
    assert names <= DEFAULTS.keys()


def test_compose_defaults_are_the_defaults() -> None:
    found = re.findall(r"\$\{(CARAVAN_\w+):-(.*?)\}", (ROOT / "compose.yaml").read_text())
    own = {"CARAVAN_LOG_FORMAT": "json"}  # containers have no terminal
    for name, default in found:
        said = own.get(name, DEFAULTS[name].removesuffix(".0"))
        assert default == {"False": "false"}.get(said, said), name


def test_compose_builds_from_files_that_exist_and_waits_for_redis() -> None:
    built = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert built.keys() == {"api", "worker", "worker-cuda"}
    for name, build in built.items():
        assert (ROOT / build["dockerfile"]).is_file()
        assert SERVICES[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert SERVICES["worker-cuda"]["profiles"] == ["gpu"]


def test_compose_redis_keeps_what_it_accepted() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_containers_get_longer_to_stop_than_the_drain_takes() -> None:
    drain_s = float(DEFAULTS["CARAVAN_DRAIN_TIMEOUT_S"])
    for name in ("api", "worker", "worker-cuda"):
        assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain_s


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_only_what_is_there_and_not_ignored(path: Path) -> None:
    shown = re.findall(r"^!(.+?)/?$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for line in re.findall(r"^COPY (?!--)(.*) \S+$", path.read_text(), re.MULTILINE):
        for source in line.split():
            assert (ROOT / source).exists()
            assert source == "." or source.split("/")[0] in shown


def test_every_folder_with_code_is_a_package() -> None:
    for top in ("api", "cli", "shared", "workers"):
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def pins(path: str) -> dict[str, str]:
    """Version of each package in a lock file; every one has a hash."""
    text = (ROOT / path).read_text()
    blocks = re.findall(r"^(\S+)==(\S+?)(?: ;.*)? \\\n((?: .*\n?)+)", text, re.MULTILINE)
    assert all("--hash=sha256:" in block for _, _, block in blocks)
    assert len(blocks) == len(re.findall(r"^\S+==", text, re.MULTILINE))
    return {name: version for name, version, _ in blocks}


def test_locks_agree_and_leave_the_engine_to_its_own_build() -> None:
    everything, run = pins("requirements.lock"), pins("requirements-run.lock")
    assert run.items() <= everything.items()
    assert "pytest" in everything
    assert "pytest" not in run
    assert "llama-cpp-python" not in everything


def test_make_help_lists_the_targets() -> None:
    said = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("run", "test", "check", "lock", "bench", "clean", "fmt", "install", "help"):
        assert re.search(rf"^  make {target} +\S", said, re.MULTILINE)


def test_ci_is_check_and_test_and_nothing_more() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    ours = [line.split(" ||")[0] for line in lines if line.startswith("make")]
    assert ours == ["make check", "make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with nothing but what the scripts themselves use."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("id", "sh", "rm"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def script(name: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ROOT / "deploy" / name), *arguments],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_python_is_a_sentence(tools: Path, tmp_path: Path) -> None:
    ended = script("make_venv.sh", str(tmp_path / "venv"), path=tools)
    assert ended.returncode == 1
    assert "no Python 3.11 or newer found" in ended.stderr


def test_a_python_without_venv_says_which_package(tools: Path, tmp_path: Path) -> None:
    python = tools / "python3"
    python.write_text(
        '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *print*) echo python3.11-venv;; esac\n'
    )
    python.chmod(0o755)
    ended = script("make_venv.sh", str(tmp_path / "venv"), path=tools)
    assert ended.returncode == 1
    assert "apt-get install python3.11-venv" in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_missing_test_tools_are_named(tools: Path) -> None:
    (tools / "redis-server").symlink_to("/bin/true")
    ended = script("test_tools.sh", path=tools)
    assert ended.returncode == 1
    assert "apt-get install docker-registry" in " ".join(ended.stderr.split())
    (tools / "docker-registry").symlink_to("/bin/true")
    assert script("test_tools.sh", path=tools).returncode == 0
