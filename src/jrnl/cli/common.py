"""What commands share: their arguments, how they reach a store, and how they ask."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any, TypeVar

import rich_click as click
from click.shell_completion import CompletionItem

from jrnl import control
from jrnl.cli.progress import Shown
from jrnl.cli.units import PATH, POINT
from jrnl.errors import JrnlError, ReadOnlyStore
from jrnl.logwrites import attach

Command = TypeVar("Command", bound=Callable[..., Any])
Rows = Callable[[list[dict[str, Any]]], object]

ASKED = "jrnl.cli.asked"  # in a context: there is a process that serves the store
_STREAMS = ("stdin", "stdout", "stderr")
_STREAM = re.compile("/dev/(?P<name>stdin|stdout|stderr)|(/proc/self|/dev)/fd/(?P<number>[0-9]+)")


class Refused(JrnlError):
    """What was to be confirmed was not."""


def command(*examples: str) -> Callable[[Callable[..., Any]], click.RichCommand]:
    """Make a command of a function: its docstring is what the help says, examples follow it."""

    def make(function: Callable[..., Any]) -> click.RichCommand:
        lines = ["Example:" if len(examples) == 1 else "Examples:", *(f"  {x}" for x in examples)]
        told = "\n".join([str(inspect.getdoc(function)), "", "\b", *lines])
        return click.command(help=told)(function)

    return make


def perform(path: str, name: str, what: str, rows: Rows | None = None, /, **arguments: Any) -> Any:
    """Do an operation on a store, wherever it is open, and show progress; return its result."""
    with Shown(what, rows) as report, advising(path):
        return control.call(path, name, arguments, report)


@contextmanager
def advising(path: str) -> Iterator[None]:
    """Have what is wrong with a store's path, or its being open for reading, told with advice."""
    context = click.get_current_context(silent=True)
    if context is not None and os.path.exists(os.path.join(path, "control.sock")):
        context.meta[ASKED] = path
    try:
        yield
    except FileNotFoundError as error:
        if os.path.exists(path):
            raise
        advice = f"jrnlctl create {path} --size 1GiB makes one"
        raise JrnlError(f"there is no store at {path!r}; {advice}") from error
    except ReadOnlyStore as error:
        if "mode='r+'" not in str(error):
            raise
        raise JrnlError(f"{error}: a command that writes does, such as 'mark'") from error


def perform_on_any(
    path: str,
    name: str,
    what: str,
    rows: Rows | None = None,
    /,
    size: int | None = None,
    source: str | None = None,
    **arguments: Any,
) -> Any:
    """Do an operation on a store, or on a log of dm-log-writes, which is attached."""
    if not os.path.isfile(path):
        if size is not None or source is not None:
            raise click.UsageError("--size and --source are for a log; a store has its own volumes")
        return perform(path, name, what, rows, **arguments)
    with Shown(what, rows) as report, attach(path, size, source) as log:
        return control.OPERATIONS[name](log, report, arguments)


def check_can_ask() -> None:
    """Raise Refused where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise Refused("there is no terminal to ask on; pass --yes to have it done without")


def confirm(question: str) -> None:
    """Ask before something is destroyed. Raises Refused; click.Abort on Ctrl-C."""
    check_can_ask()
    if not click.confirm(question, err=True):
        raise Refused("nothing was changed")


def absolute(path: str | None) -> str | None:
    """Return a path that means the same in another process."""
    if path is None:
        return None
    found = os.path.abspath(path)
    stream = _STREAM.fullmatch(found)
    if stream is None:
        return found
    number = stream["number"] or _STREAMS.index(stream["name"])
    return f"/proc/{os.getpid()}/fd/{number}"


@contextmanager
def beside(*outs: str | None) -> Iterator[None]:
    """Have what is said go to standard error, where one of these files is standard output."""
    to_stdout = any(out is not None and _is_stdout(out) for out in outs)
    with redirect_stdout(sys.stderr) if to_stdout else nullcontext():
        yield


def _is_stdout(path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # of a stream that is no file
        return False


def say(text: str = "") -> None:
    """Write a line on standard output; control characters of names cannot move the cursor."""
    safe = "".join(
        character if unicodedata.category(character) != "Cc" or character == "\n" else "?"
        for character in text
    )
    print(safe)


def say_json(value: object) -> None:
    """Write one JSON object on a line."""
    print(json.dumps(value, ensure_ascii=False))


def say_columns(rows: list[list[str]], indent: str = "") -> None:
    """Write rows whose columns are aligned; the last one is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(indent + "  ".join(cells).rstrip())


def _asked(context: click.Context, name: str) -> Any:
    """Return an operation's result for what completes a word; None where it cannot be had."""
    # Where the last word is an option that lacks its value, click has not sorted out the others.
    path = context.params.get("path") or next(iter(context.args), None)
    try:
        return None if path is None else control.call(path, name)
    except (JrnlError, OSError):
        return None


def _complete_points(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of marks and snapshots, where the store can be asked."""
    names = _asked(context, "names") or []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _complete_volumes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the names of volumes."""
    told = _asked(context, "info") or {"volumes": {}}
    return [CompletionItem(name) for name in told["volumes"] if name.startswith(incomplete)]


def path_argument(command: Command) -> Command:
    """Take the path of a store; it is taken first, for what completes the rest."""
    return click.argument("path", type=PATH, is_eager=True)(command)


def json_option(command: Command) -> Command:
    """Take --json."""
    told = "Exact figures, as one JSON object."
    return click.option("--json", "as_json", is_flag=True, help=told)(command)


def yes_option(command: Command) -> Command:
    """Take --yes."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def dry_run_option(command: Command) -> Command:
    """Take --dry-run."""
    told = "Say what it would do, and change nothing."
    return click.option("--dry-run", "-n", is_flag=True, help=told)(command)


def to_option(command: Command) -> Command:
    """Take --to POINT."""
    return click.option(
        "--to", required=True, type=POINT, metavar="POINT", shell_complete=_complete_points,
        help="The state: a number, the name of a mark or a snapshot, or an ISO 8601 time.",
    )(command)  # fmt: skip


def base_option(command: Command) -> Command:
    """Take --base SNAPSHOT."""
    return click.option(
        "--base", metavar="SNAPSHOT", shell_complete=_complete_points,
        help="Start from this snapshot, or from 'production'; the cheapest way by default.",
    )(command)  # fmt: skip


def volume_option(command: Command) -> Command:
    """Take --volume NAME."""
    return click.option(
        "--volume", metavar="NAME", shell_complete=_complete_volumes,
        help="The volume, where the store has several.",
    )(command)  # fmt: skip


def point_option(*names: str, told: str) -> Callable[[Command], Command]:
    """Take another option that is a POINT."""

    def add(command: Command) -> Command:
        option = click.option(
            *names, type=POINT, metavar="POINT", shell_complete=_complete_points, help=told
        )
        return option(command)

    return add


def point_argument(name: str) -> Callable[[Command], Command]:
    """Take an argument that is a POINT."""

    def add(command: Command) -> Command:
        return click.argument(name, type=POINT, shell_complete=_complete_points)(command)

    return add
