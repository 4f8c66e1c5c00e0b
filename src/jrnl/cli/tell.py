"""How the command says what has gone wrong: one line on standard error."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


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


@contextmanager
def telling() -> Iterator[None]:
    """Have warnings told as lines of the command's, in a block; logging ends with it, too."""
    logger, shown = logging.getLogger("jrnl"), warnings.showwarning
    level = logger.level
    try:
        warnings.showwarning = show_warning
        yield
    finally:
        warnings.showwarning = shown
        logger.setLevel(level)
        for handler in list(logger.handlers):
            if isinstance(handler, _Lines):
                logger.removeHandler(handler)


def log_to_stderr(level: int) -> None:
    """Have what is logged from a level on stand on standard error, until `telling` ends."""
    logger = logging.getLogger("jrnl")
    logger.addHandler(_Lines(sys.stderr))
    logger.setLevel(level)


class _Lines(logging.StreamHandler[TextIO]):
    """What is logged, as the command says all else."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.setFormatter(logging.Formatter("jrnlctl: %(asctime)s %(levelname)s %(message)s"))
