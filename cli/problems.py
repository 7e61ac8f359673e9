"""What an operator can mend, said in one sentence."""

from __future__ import annotations

import errno
from pathlib import Path


class Problem(Exception):
    """Ends the command with its message on stderr and exit status 1, without a traceback."""


def disk_problem(error: OSError, path: Path) -> Problem:
    """An OSError on `path` in plain words; a full disk is named as such."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(f"the disk is full: {path} cannot be written")
    return Problem(f"cannot use {path}: {error.strerror or error}")
