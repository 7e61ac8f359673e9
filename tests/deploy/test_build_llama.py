"""The build: flags that do not crash, wheels by flags, CMAKE_ARGS remembered."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploy import build_llama


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.setattr(build_llama, "INSTALLED", tmp_path / "installed.txt")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86-64")
def test_amx_is_never_compiled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = "flags : fpu avx512f avx512_vnni amx_tile amx_int8 amx_bf16"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cpuinfo)
    assert build_llama.cpu_flags() == [
        "-DGGML_NATIVE=OFF",
        "-DGGML_AVX512=ON",
        "-DGGML_AVX512_VNNI=ON",
    ]


def test_given_arguments_come_last_so_they_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_AVX512=OFF")
    assert build_llama.cmake_args().endswith(" -DGGML_AVX512=OFF")


def test_other_flags_are_another_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build_llama.wheel_folder()
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    assert build_llama.wheel_folder() != plain


@pytest.mark.parametrize(
    ("line", "done"),
    [("[ 12/48] Building CXX", 25), ("[ 7%] Building", 7), ("-- Configuring", None)],
)
def test_progress_of_ninja_and_make(line: str, done: int | None) -> None:
    assert build_llama.percent(line) == done


def test_no_compiler_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_llama.shutil, "which", lambda _: None)
    with pytest.raises(SystemExit, match=r"no C\+\+ compiler found"):
        build_llama.compiler()


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("cc1plus: fatal error: No space left on device\n")
    assert build_llama.blame(log).endswith("because the disk is full")
    log.write_text("error: expected ';'\n")
    assert build_llama.blame(log).startswith("error: expected ';'\n")


class Pip:
    """Stands in for the commands that would install; counts them."""

    def __init__(self) -> None:
        self.wheels: list[str] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.wheels.append(command[-1])
        return subprocess.CompletedProcess(command, 0)


def test_an_installed_wheel_is_not_installed_again_and_cuda_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pip = Pip()
    monkeypatch.setattr(build_llama.subprocess, "run", pip)
    monkeypatch.setattr(build_llama, "find_spec", lambda _: object())
    for given in ("-DGGML_CUDA=on", ""):
        monkeypatch.setenv("CMAKE_ARGS", given)
        folder = build_llama.wheel_folder()
        folder.mkdir(parents=True)
        (folder / "llama_cpp_python-0.whl").touch()

    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    build_llama.install()
    monkeypatch.delenv("CMAKE_ARGS")
    build_llama.install()
    assert len(pip.wheels) == 1
    monkeypatch.setenv("CMAKE_ARGS", "")
    build_llama.install()
    assert len(set(pip.wheels)) == 2


@pytest.mark.parametrize(("code", "why"), [(-11, "signal 11"), (1, "no such instruction")])
def test_a_wheel_that_cannot_decode_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, code: int, why: str
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, "", "no such instruction\n")

    monkeypatch.setattr(build_llama.subprocess, "run", run)
    with pytest.raises(SystemExit, match=f"cannot decode here \\({why}\\)"):
        build_llama.self_test()
