"""Build llama-cpp-python for this machine with flags that do not crash, and keep the wheel.

A plain build compiles for whatever the CPU advertises. A CPU can advertise AMX while its (virtual)
machine forbids it, and then the first decode dies with SIGSEGV, so AMX is never compiled in.
Wheels are cached by version, flags and compiler, so one made with other flags is never reused;
any Python may use it, because llama.cpp is reached through ctypes.
CMAKE_ARGS given once (CUDA: `-DGGML_CUDA=on`) are remembered by the environment they were given
for, until others are given.

    python deploy/build_llama.py flags       print the CMAKE_ARGS chosen for this machine
    python deploy/build_llama.py install     build (minutes, once) and install
    python deploy/build_llama.py self-test   decode a few tokens in a child process

Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
INSTALLED = Path(sys.prefix) / "caravan-llama.txt"  # CMAKE_ARGS given, then the wheel installed
CPU_FEATURES = {
    "avx512f": "GGML_AVX512",
    "avx512vbmi": "GGML_AVX512_VBMI",
    "avx512_vnni": "GGML_AVX512_VNNI",
    "avx512_bf16": "GGML_AVX512_BF16",
}
STEP = re.compile(r"\[\s*(\d+)/(\d+)\]")
PERCENT = re.compile(r"\[\s*(\d+)%\]")


def cpu_flags() -> list[str]:
    """CMake options for the CPU backend: x86-64 without AMX, other machines as they come."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    try:
        listed = set(re.findall(r"[a-z0-9_]+", Path("/proc/cpuinfo").read_text(errors="replace")))
    except OSError:
        listed = set()
    found = [option for feature, option in CPU_FEATURES.items() if feature in listed]
    return ["-DGGML_NATIVE=OFF", *(f"-D{option}=ON" for option in found)]


def cmake_args() -> str:
    """What the build gets: the caller's own arguments come last and win."""
    ours = [*cpu_flags(), "-DLLAMA_BUILD_TOOLS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"]
    return " ".join([*ours, given_args()]).strip()


def given_args() -> str:
    """CMAKE_ARGS as given now, or else as given when this environment was last installed into."""
    return os.environ.get("CMAKE_ARGS", installed()[0])


def installed() -> tuple[str, str]:
    """(CMAKE_ARGS, wheel) of what this environment has; both empty when nothing is installed."""
    try:
        given, wheel = INSTALLED.read_text().splitlines()
    except (OSError, ValueError):
        return "", ""
    return given, wheel


def wheel_folder() -> Path:
    """Where wheels of exactly these flags live."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = "\n".join((VERSION, cmake_args(), platform.machine(), compiler()))
    return home / "caravan" / "wheels" / hashlib.sha256(named.encode()).hexdigest()[:16]


def compiler() -> str:
    """The C++ compiler's name, or a clear end: nothing can be built without one."""
    wanted = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    found = next((path for name in wanted if name and (path := shutil.which(name))), None)
    if not found:
        sys.exit(
            "caravan: no C++ compiler found, and llama.cpp has to be compiled for this machine.\n"
            "         Install one (Debian: apt-get install g++, Fedora: dnf install gcc-c++,\n"
            "         macOS: xcode-select --install) and run the same command again."
        )
    return found


def progress(lines: Iterator[str], log: Path) -> None:
    """Every line goes into `log`; a terminal sees one moving line, others a line each tenth."""
    started, shown = time.monotonic(), -1
    with log.open("w") as file:
        for line in lines:
            file.write(line)
            done = percent(line)
            if done is None or done == shown or (not sys.stderr.isatty() and done < shown + 10):
                continue
            shown = done
            bar = "#" * (done // 4) + "." * (25 - done // 4)
            text = f"  compiling llama.cpp [{bar}] {done:3d} %  {time.monotonic() - started:4.0f} s"
            print(text, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)


def percent(line: str) -> int | None:
    """How far a line of ninja (`[3/40]`) or make (`[ 7%]`) says the build is."""
    if step := STEP.search(line):
        return 100 * int(step[1]) // max(1, int(step[2]))
    return int(found[1]) if (found := PERCENT.search(line)) else None


def build(folder: Path) -> Path:
    """Compile the wheel into `folder`; on failure show the end of the log and stop."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    print(
        f"Building llama-cpp-python {VERSION} for this CPU: about 6 minutes on 2 cores, once.\n"
        f"  CMAKE_ARGS={cmake_args()}\n  full output: {log}",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory(dir=folder) as part:
        if compile_into(Path(part), log):
            sys.exit(f"{blame(log)}; the whole log is {log}")
        wheel = next(Path(part).glob("llama_cpp_python-*.whl"))
        return wheel.replace(folder / wheel.name)  # under its name only when it is whole


def compile_into(folder: Path, log: Path) -> int:
    """Let pip compile the pinned source into a wheel in `folder`; its exit status."""
    wanted = folder / "llama.txt"
    wanted.write_text(f"llama-cpp-python=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "-v"]
    command += ["--no-binary", "llama-cpp-python", "--require-hashes", "-r", str(wanted)]
    command += ["-w", str(folder)]
    environment = {**os.environ, "CMAKE_ARGS": cmake_args()}
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 2))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        progress(iter(process.stdout.readline, ""), log)
    return process.returncode


def blame(log: Path) -> str:
    """One sentence on a failed build: the likely cause, or the end of the log before it."""
    text = log.read_text()
    if "No space left on device" in text:
        return "caravan: llama-cpp-python did not build because the disk is full"
    tail = "".join(text.splitlines(keepends=True)[-25:])
    return f"{tail}\ncaravan: llama-cpp-python did not build"


def self_test() -> None:
    """Decode a few tokens in a child: a build that crashes becomes one clear sentence."""
    child = [sys.executable, "-m", "workers.selftest"]
    result = subprocess.run(child, capture_output=True, text=True, check=False)
    if result.returncode:
        why = f"signal {-result.returncode}" if result.returncode < 0 else result.stderr.strip()
        sys.exit(
            f"caravan: llama.cpp was built but cannot decode here ({why}).\n"
            f"         Flags used: {cmake_args()}\n"
            "         For the most portable build run the same command with\n"
            "         CMAKE_ARGS='-DGGML_AVX512=OFF -DGGML_AVX512_VBMI=OFF -DGGML_AVX512_VNNI=OFF\n"
            "         -DGGML_AVX512_BF16=OFF' in front."
        )


def install() -> None:
    """Build if no wheel with these flags is kept; install it unless it is what is installed."""
    folder = wheel_folder()
    wheel = next(folder.glob("llama_cpp_python-*.whl"), None) or build(folder)
    if installed() == (given_args(), str(wheel)) and find_spec("llama_cpp"):
        return
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["--no-deps", "--force-reinstall", str(wheel)]
    if subprocess.run(pip, check=False).returncode:
        sys.exit(f"caravan: the wheel {wheel} could not be installed; pip says why above")
    INSTALLED.write_text(f"{given_args()}\n{wheel}\n")


if __name__ == "__main__":
    actions = {"flags": lambda: print(cmake_args()), "install": install, "self-test": self_test}
    chosen = actions.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if chosen is None:
        sys.exit(__doc__)
    chosen()
