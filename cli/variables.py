"""The list of CARAVAN_* variables as people see it: in `caravan --help` and on the page in docs/.

`python -m cli.variables` writes the page's table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.table import Table

from shared import settings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = "| variable | default | what it sets |\n|---|---|---|\n"


def table() -> Table:
    """For the terminal."""
    shown = Table(title="Variables; the commands take most of them as flags too")
    shown.add_column("variable", no_wrap=True)
    shown.add_column("default")
    shown.add_column("what it sets")
    for variable, default, sentence in settings.table():
        shown.add_row(variable, default or "-", sentence)
    return shown


def with_table(page: str) -> str:
    """The page with the table as it should be."""
    rows = "".join(
        f"| `{name}` | {f'`{default}`' if default else ''} | {sentence} |\n"
        for name, default, sentence in settings.table()
    )
    return re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: HEAD + rows, page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
