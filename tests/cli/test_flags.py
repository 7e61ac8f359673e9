"""Flags, variables, help and the documentation's table are one list."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from cli import flags
from cli.main import app, main
from cli.variables import PAGE, with_table
from shared import settings
from shared.settings import BadSetting, Settings

FIELDS = [field.name for field in msgspec.structs.fields(Settings)]


def run(*arguments: str, **environment: str) -> str:
    return CliRunner(env={"COLUMNS": "200", **environment}).invoke(app, list(arguments)).output


def test_every_setting_is_a_flag_of_some_command() -> None:
    grouped = {*flags.COMMON, *flags.API, *flags.WORKER, *flags.SERVE}
    assert grouped == set(FIELDS)


def test_serve_has_them_all_and_the_others_only_what_they_honour() -> None:
    served = run("serve", "--help")
    assert all(f"--{name.replace('_', '-')} " in served for name in FIELDS)
    assert "--slots " not in run("api", "--help")
    assert "--port " not in run("worker", "--help")


def test_help_lists_every_variable() -> None:
    shown = run("--help")
    assert [name for name, _, _ in settings.table() if name not in shown] == []


def test_the_documentation_lists_the_same() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "run `make fmt`"
    assert all(f"| `{name}` |" in page for name, _, _ in settings.table())


def test_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_SLOTS", "3")
    seen: list[tuple[Settings, dict[str, str]]] = []
    command = flags.with_flags("slots", "threads")(lambda *given: seen.append(given))
    command(slots="5", threads=None)
    [(chosen, environment)] = seen
    assert chosen.slots == 5
    assert environment["CARAVAN_SLOTS"] == "5"
    assert "CARAVAN_THREADS" not in environment


def test_a_bad_value_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["caravan", "serve", "--port", "many"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == "caravan: CARAVAN_PORT='many' cannot be: Expected `int`, got `str`"


def test_an_unknown_variable_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAVAN_SLOTZ", "3")
    with pytest.raises(BadSetting, match="CARAVAN_SLOTZ is no setting"):
        flags.with_flags("slots")(lambda *_: None)()


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_part_alone_says_which_redis_it_misses(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["caravan", part, "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "set CARAVAN_REDIS_URL" in str(ended.value.code)
