"""What is checked before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli.checks import free_port, free_socket, model_files
from cli.problems import Problem
from shared.settings import Settings


def test_port_zero_is_any_free_one() -> None:
    assert free_port("127.0.0.1", 0) > 0


def test_a_host_that_is_not_ours() -> None:
    with pytest.raises(Problem, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        free_port("192.0.2.1", 0)


def test_a_socket_in_use_and_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(Problem, match="in use"):
            free_socket(str(path))
    assert path.exists()
    free_socket(str(path))
    free_socket("")


def test_a_socket_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="its folder does not exist"):
        free_socket(str(tmp_path / "none" / "api.sock"))


def test_model_files(tmp_path: Path) -> None:
    good = tmp_path / "good.gguf"
    good.write_bytes(b"GGUF and more")
    model_files(Settings(model="ai/smollm2"))
    model_files(Settings(model=f"mine={good}, ai/smollm2"))
    with pytest.raises(Problem, match=r"cannot read the model .*none\.gguf: No such file"):
        model_files(Settings(model=f"ai/smollm2,mine={tmp_path}/none.gguf"))
