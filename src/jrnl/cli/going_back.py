"""Commands that go back to a state: beside production, onto it, or in place."""

from __future__ import annotations

import shlex
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import rich_click as click

from jrnl import control
from jrnl.cli.common import (
    absolute,
    base_option,
    beside,
    check_can_ask,
    command,
    confirm,
    dry_run_option,
    json_option,
    path_argument,
    perform,
    point_option,
    say,
    say_columns,
    say_json,
    to_option,
    volume_option,
    yes_option,
)
from jrnl.cli.tell import complain
from jrnl.cli.units import PATH, count_text, size_text
from jrnl.control.report import Silent
from jrnl.errors import JrnlError

Row = dict[str, Any]


@command("jrnlctl recover disk.jrnl --to before-upgrade --out before.img")
@path_argument
@to_option
@click.option("--out", required=True, type=PATH, help="The file; a new one.")
@base_option
@volume_option
@click.option("--force", is_flag=True, help="Overwrite the file, or block device, that is there.")
@json_option
def recover(
    path: str,
    to: str,
    out: str,
    base: str | None,
    volume: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Rebuild a state beside the volume, into a file.

    The volume itself is left as it is. Where the state holds zeroes the file has holes.
    """
    done = perform(
        path, "recover", "recovering", to=to, out=absolute(out), base=base, volume=volume,
        force=force,
    )  # fmt: skip
    _say_file(done, out, as_json=as_json)


@command(
    "jrnlctl export disk.jrnl disk.img",
    "jrnlctl export db.jrnl root.img --volume root --at 2026-03-01T12:00",
)
@path_argument
@click.argument("out", type=PATH)
@point_option("--at", told="The state; the present one by default.")
@volume_option
@click.option("--force", is_flag=True, help="Overwrite the file, or block device, that is there.")
@json_option
def export(
    path: str, out: str, at: str | None, volume: str | None, force: bool, as_json: bool
) -> None:
    """Copy a volume into a file, as it is or as it was."""
    done = perform(
        path, "export", "exporting", out=absolute(out), at=at, volume=volume, force=force
    )
    _say_file(done, out, as_json=as_json)


def _say_file(done: Row, out: str, *, as_json: bool) -> None:
    made = f"{size_text(done['bytes'])} put together, {done['route']} from {done['base']}"
    size = size_text(done["size"])
    with beside(out):
        if as_json:
            say_json(done)
        else:
            say(f"{out}: {done['volume']} at state {done['state']:,}, {size}; {made}")


@command(
    "jrnlctl restore disk.jrnl --to before-upgrade --dry-run",
    "jrnlctl restore disk.jrnl --to before-upgrade",
)
@path_argument
@to_option
@base_option
@yes_option
@dry_run_option
@json_option
def restore(path: str, to: str, base: str | None, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Copy an earlier state onto the volumes, which can be undone.

    What it overwrites is journaled like any write, so that every state before it can still be
    rebuilt, as far as the journal has room. The recovery is kept: 'again' restores it once more.
    """
    if not (yes or dry_run):
        check_can_ask()
    if dry_run or not yes:
        told = perform(path, "restore", "planning", to=to, base=base, dry_run=True)
        if dry_run:
            _say_restore(path, told, dry_run=True, as_json=as_json)
            return
        confirm(_question(path, told))
    done = perform(path, "restore", "restoring", to=to, base=base)
    _say_restore(path, done, dry_run=False, as_json=as_json)


@command("jrnlctl again disk.jrnl", "jrnlctl again disk.jrnl 3 --delete")
@path_argument
@click.argument("id", type=int, required=False)
@click.option("--delete", is_flag=True, help="Give the recovery up, with what it preserves.")
@yes_option
@dry_run_option
@json_option
def again(path: str, id: int | None, delete: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Restore a recovery once more, from the copy that it was made from.

    Each restore leaves a recovery, with what it started from preserved: it can be done again
    whatever has happened to the volumes since. ID is one that 'info' lists; the last by default.
    """
    if delete:
        _give_up(path, id, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if not (yes or dry_run):
        check_can_ask()
    if dry_run or not yes:
        told = perform(path, "again", "planning", number=id, dry_run=True)
        if dry_run:
            _say_restore(path, told, dry_run=True, as_json=as_json)
            return
        confirm(_question(path, told))
    done = perform(path, "again", "restoring", number=id)
    _say_restore(path, done, dry_run=False, as_json=as_json)


def _give_up(path: str, id: int | None, *, yes: bool, dry_run: bool, as_json: bool) -> None:
    if not (yes or dry_run):
        number = "the last recovery" if id is None else f"recovery {id}"
        confirm(f"give up {number} of {path}?")
    done = perform(path, "delete-recovery", "deleting", number=id, dry_run=dry_run)
    if as_json:
        say_json(done)
    else:
        say(f"recovery {done['id']} {'would be' if dry_run else 'is'} deleted")


def _question(path: str, told: Row) -> str:
    restored = told["restored"]
    count = restored["last_seq"] - restored["first_seq"] + 1
    return (
        f"restore state {told['state']:,} onto {path}: {size_text(restored['bytes'])} in "
        f"{count_text(count, 'entry')}; the window will be {told['window']['oldest']:,} to "
        f"{told['window']['newest']:,}. Go on?"
    )


def _say_restore(path: str, told: Row, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        say_json(told)
        return
    restored, window = told["restored"], told["window"]
    count = restored["last_seq"] - restored["first_seq"] + 1
    say_columns([
        ["state", f"{told['state']:,}"],
        ["route", f"{told['route']} from {told['base']}"],
        ["moved" if not dry_run else "moves",
         f"{size_text(told['bytes'])} of {count_text(told['entries'], 'entry')}"],
        ["written" if not dry_run else "writes",
         f"{size_text(restored['bytes'])} in {count_text(count, 'entry')}"],
        ["window then" if dry_run else "window", f"{window['oldest']:,} to {window['newest']:,}"],
    ])  # fmt: skip
    if not dry_run and count:
        say(f"undo: jrnlctl restore {shlex.quote(path)} --to {restored['first_seq'] - 1}")


@command(
    "jrnlctl rewind disk.jrnl --to before-test --dry-run",
    "jrnlctl rewind disk.jrnl --to before-test --yes",
)
@path_argument
@to_option
@click.option(
    "--close-views", is_flag=True, help="Close views of later states, also exported ones."
)
@yes_option
@dry_run_option
@json_option
def rewind(path: str, to: str, close_views: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Put the volumes back in place, and forget what came after.

    It costs what was written since, and cannot be undone: the later states are given up. To keep
    them, use 'restore'.
    """
    if not (yes or dry_run):
        check_can_ask()
    if dry_run or not yes:
        told = perform(path, "rewind", "looking", to=to, dry_run=True)
        if dry_run:
            _say_rewind(told, dry_run=True, as_json=as_json)
            return
        lost = f" and the marks {', '.join(told['marks'])}" if told["marks"] else ""
        confirm(
            f"rewind {path} to state {told['state']:,}: {count_text(told['entries'], 'entry')}"
            f"{lost} will be gone for good. Go on?"
        )
    began = datetime.now(UTC)
    try:
        done = perform(path, "rewind", "rewinding", to=to, close_views=close_views)
    except KeyboardInterrupt:
        _complain_if_rewound(path, began)
        raise
    _say_rewind(done, dry_run=False, as_json=as_json)


def _complain_if_rewound(path: str, began: datetime) -> None:
    """Say that a rewind was complete when it was interrupted, where it was: nothing undoes it."""
    last = Silent()
    with suppress(JrnlError, OSError):
        control.call(path, "log", {"start": str(control.call(path, "info")["seq"])}, last)
        for row in last.kept:
            if row["kind"] == "rewind" and datetime.fromisoformat(row["time"]) >= began:
                complain(f"the rewind was complete: {path} is at state {row['state']:,}")


def _say_rewind(told: Row, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        say_json(told)
        return
    would = "would go" if dry_run else "is gone" if told["entries"] == 1 else "are gone"
    marks = f", and the marks {', '.join(told['marks'])}" if told["marks"] else ""
    say(f"state {told['state']:,}: {size_text(told['bytes'])} "
        f"{'would be' if dry_run else 'were'} put back; "
        f"{count_text(told['entries'], 'entry')} {would}{marks}")  # fmt: skip
