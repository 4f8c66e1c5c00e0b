"""Commands that take out what a store holds: logs, and files of the file systems in it."""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from typing import Any

import rich_click as click

from jrnl.cli.common import (
    absolute,
    beside,
    command,
    json_option,
    path_argument,
    perform,
    perform_on_any,
    point_option,
    say,
    say_columns,
    say_json,
    volume_option,
)
from jrnl.cli.units import OFFSET, PATH, POINT, SIZE, count_text, size_text, time_shown

Row = dict[str, Any]


@command("jrnlctl fork disk.jrnl child.jrnl", "jrnlctl fork disk.jrnl child.jrnl --at before-test")
@path_argument
@click.argument("new", type=PATH)
@point_option("--at", told="The state; the present one by default.")
@click.option("--history", is_flag=True, help="Take the window up to it along.")
@json_option
def fork(path: str, new: str, at: str | None, history: bool, as_json: bool) -> None:
    """Make a store of its own that begins with a state of this one.

    Where the file system can, the two share what neither of them has written since. Whatever
    becomes of one, the other one stays as it is.
    """
    made = perform(path, "fork", "forking", out=absolute(new), at=at, history=history)
    if as_json:
        say_json(made)
    else:
        say(f"{new}: begins with state {made['parent']['seq']:,} of {path}")


@command("jrnlctl export-log disk.jrnl disk.log")
@path_argument
@click.argument("out", type=PATH)
@volume_option
@json_option
def export_log(path: str, out: str, volume: str | None, as_json: bool) -> None:
    """Write what the journal holds as a log in the format of dm-log-writes.

    Replayed onto zeroes, the log goes through every state of the window.
    """
    done = perform(path, "export-log", "exporting", out=absolute(out), volume=volume)
    if as_json:
        say_json(done)
    else:
        told = count_text(done["entries"], "entry")
        say(f"{out}: {told}, states {done['first_state']:,} to {done['last_state']:,}")


@command(
    "jrnlctl plot disk.jrnl -o timeline.png",
    "jrnlctl plot disk.jrnl --html timeline.html --from before-upgrade",
    "jrnlctl plot ext4.log -o ext4.svg --by seq",
)
@click.argument("path", metavar="STORE|LOG", type=PATH, is_eager=True)
@click.option("-o", "--out", type=PATH, help="A picture: .png, .svg or .pdf.")
@click.option("--html", type=PATH, help="A page on which to move along time.")
@point_option("--from", "start", told="Only what was written after this state.")
@point_option("--to", "stop", told="Only what was written up to this state.")
@click.option("--by", type=click.Choice(["time", "seq"]), help="What stands below the picture.")
@click.option("--title", help="What stands above it.")
@volume_option
def plot(path: str, out: str | None, html: str | None, **options: Any) -> None:
    """Draw a history: what was written where and when, and what can be recovered.

    The page needs no server: on it a person moves along time, sees what changed, and copies the
    point to recover to. The path is of a store, or of a log of dm-log-writes.
    """
    if out is None and html is None:
        raise click.UsageError("say what to make: -o FILE, --html FILE, or both")
    made = perform_on_any(
        path, "plot", "drawing", picture=absolute(out), html=absolute(html), **options
    )
    with beside(out, html):
        for file in made["made"]:
            say(file)


@command(
    "jrnlctl files disk.jrnl@before-upgrade ls /etc",
    "jrnlctl files disk.jrnl@before-upgrade cat /etc/fstab > fstab",
    "jrnlctl files ext4.log@1200 ls",
    "jrnlctl files vm.jrnl ls --offset 1MiB",
)
@click.argument("target", metavar="PATH[@POINT]")
@click.argument("action", type=click.Choice(["ls", "cat"]))
@click.argument("file", default="/")
@volume_option
@click.option("--offset", type=OFFSET, default=0, help="Where a partition begins in the volume.")
@click.option("--length", type=SIZE, help="How long it is; to the volume's end by default.")
@click.option(
    "--journal/--no-journal", default=True, help="Look through the journal of ext, or not."
)
@json_option
def files(target: str, action: str, file: str, as_json: bool, **options: Any) -> None:
    """Look into the file system in a state of a volume: ext2 to ext4, XFS or btrfs.

    PATH is a store, or a log of dm-log-writes; without a POINT it is the present state. 'ls' lists
    a directory, 'cat' writes a file's content to the standard output. What the journal of an ext
    file system holds is shown in place, as mounting would put it; that of XFS and btrfs is not.
    """
    path, at = _split(target)
    what: Row = {"place": file, "at": at, **options}
    if action == "cat":
        perform_on_any(path, "read-file", "reading", _write_pieces, **what)
        return
    entries: list[Row] = []
    found = perform_on_any(path, "list-files", "reading", entries.extend, **what)
    if as_json:
        say_json({**found, "entries": entries})
    else:
        say_columns([_file_row(entry) for entry in entries])


def _split(target: str) -> tuple[str, str | None]:
    """Return the path and the point; a path may have an '@' in it."""
    path, sign, at = target.rpartition("@")
    if not sign or os.path.exists(target):
        return target, None
    return path, POINT.convert(at, None, None)


def _write_pieces(rows: list[Row]) -> None:
    for row in rows:
        sys.stdout.buffer.write(b64decode(row["data"]))


def _file_row(entry: Row) -> list[str]:
    size, mtime = entry["size"], entry["mtime"]
    return [
        entry["type"],
        "?" if size is None else size_text(size),
        "?" if mtime is None else time_shown(mtime),
        entry["name"],
    ]
