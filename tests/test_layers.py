"""The import arrows, and how long a file and a function may be. Read with ast, nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted(
    path for name in ("shared", "api", "workers", "cli") for path in ROOT.glob(f"{name}/**/*.py")
)
ALL = sorted(
    [*CODE, *ROOT.glob("tests/**/*.py"), *ROOT.glob("deploy/*.py"), *ROOT.glob("bench/**/*.py")]
)
MAY_IMPORT = {
    "shared": {"shared"},
    "api": {"api", "shared"},
    "workers": {"workers", "shared"},
    "cli": {"cli", "shared"},
}
OURS = {*MAY_IMPORT, "tests", "bench", "deploy"}
OUTSIDE = {"asyncio", "redis", "arq", "httpx", "litestar", "uvicorn", "requests", "http"}
MOST_FILE_LINES = 300
MOST_TEST_LINES = 500
MOST_FUNCTION_LINES = 50


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module a file imports, anywhere in it, as a dotted path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module or ""


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(ast.parse(path.read_text()))}


@pytest.mark.parametrize("path", CODE, ids=name)
def test_imports_follow_the_arrows(path: Path) -> None:
    folder = name(path).split("/")[0]
    assert tops(path) & OURS <= MAY_IMPORT[folder]


@pytest.mark.parametrize(
    "path", [p for p in CODE if name(p).startswith(("workers/engine/", "workers/text/"))], ids=name
)
def test_engine_and_text_do_no_io(path: Path) -> None:
    assert not tops(path) & OUTSIDE


@pytest.mark.parametrize("path", [p for p in CODE if name(p).startswith("shared/")], ids=name)
def test_shared_needs_no_model(path: Path) -> None:
    assert not tops(path) & {"llama_cpp", "llguidance", "numpy"}


@pytest.mark.parametrize(
    ("module", "owner"),
    [
        ("sse_starlette", {"api/streaming.py"}),
        ("pickle", set()),
    ],
)
def test_a_module_has_one_importer(module: str, owner: set[str]) -> None:
    assert {name(path) for path in CODE if module in tops(path)} <= owner


def test_only_settings_reads_the_environment() -> None:
    readers = {name(path) for path in CODE if reads_environment(ast.parse(path.read_text()))}
    assert readers <= {"shared/settings.py"}


def reads_environment(tree: ast.AST) -> bool:
    """Whether code names os.environ or os.getenv, however it imported os."""
    names = {"environ", "environb", "getenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and names & {a.name for a in node.names}
        )
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("path", ALL, ids=name)
def test_files_are_small_rooms(path: Path) -> None:
    source = path.read_text()
    most = MOST_TEST_LINES if name(path).startswith("tests/") else MOST_FILE_LINES
    assert len(source.splitlines()) <= most
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in CODE if p.read_text()], ids=name)
def test_a_file_says_first_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring at the head"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.environ['A']", True),
        ("from os import getenv", True),
        ("import os\nos.getpid()", False),
    ],
)
def test_the_environment_check_sees_every_form(source: str, found: bool) -> None:
    assert reads_environment(ast.parse(source)) == found
