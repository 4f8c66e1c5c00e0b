"""How the command says what has gone wrong: one line on standard error."""

from __future__ import annotations

import os
import sys


def complain(message: str) -> None:
    """Write one line on standard error."""
    print(f"jrnlctl: {' '.join(message.split())}", file=sys.stderr)


def told(error: BaseException) -> str:
    """Return what a user is told of an error, without the names of Python."""
    if isinstance(error, MemoryError):
        return str(error) or "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        return error.strerror if name is None else f"{os.fsdecode(name)!r}: {error.strerror}"
    return str(error) or type(error).__name__


def show_warning(message: Warning | str, *place: object, **more: object) -> None:
    """Say a warning as the command says all else, without a line of its source."""
    complain(f"note: {message}")
