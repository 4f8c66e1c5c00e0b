"""The command: ``jrnlctl``, the same as ``python -m jrnl``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from jrnl import demo, logwrites
from jrnl.errors import JrnlError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    A user's mistake gives one line on standard error and a non-zero code, never a traceback.
    """
    options = _parser().parse_args(arguments)
    try:
        demo.run(options.log)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone; nothing must be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (JrnlError, OSError) as error:
        print(f"jrnlctl: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jrnlctl", description="Every earlier state of a volume, rebuilt and restored."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shown = commands.add_parser(
        "demo",
        help="replay a recorded disk history and go back and forth in it",
        description=logwrites.replay.__doc__.splitlines()[0] if logwrites.replay.__doc__ else None,
    )
    shown.add_argument("log", metavar="LOG", help="a dm-log-writes log, plain or .xz")
    return parser
