"""The command: ``jrnlctl``, the same as ``python -m jrnl``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from jrnl import demo
from jrnl.cli.tell import complain, telling, told
from jrnl.errors import JrnlError

_PACKAGES = ("click", "rich", "rich_click")
_INTERRUPTED = 130  # what a shell says of a command that Ctrl-C has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    A user's mistake gives one line on standard error and a non-zero code, never a traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):  # any name or path can be written to any terminal
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with telling():
            code = _run(given)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; nothing must be written at exit either
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (JrnlError, OSError, MemoryError) as error:
        complain(told(error))
        return 1
    return code


def _open_what_is_closed() -> None:
    """Have /dev/null in the place of a standard stream that the caller has closed.

    Otherwise the next file that is opened gets its number, and what is said would go into that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)  # until the process ends


def _run(arguments: list[str]) -> int:
    try:
        from jrnl.cli.app import run
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _PACKAGES:
            raise
    else:
        return run(arguments)
    if arguments[:1] == ["demo"] and not any(word.startswith("-") for word in arguments):
        demo.run(*arguments[1:2])
        return 0
    complain("this takes more packages: pip install 'jrnl-engine[cli]'; only 'demo' does without")
    return 1
