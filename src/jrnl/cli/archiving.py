"""Commands that keep a store's history on an object store, and bring it back from there."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import rich_click as click

from jrnl import control
from jrnl.api import open_store
from jrnl.cli.common import (
    advising,
    command,
    json_option,
    path_argument,
    perform,
    say,
    say_json,
)
from jrnl.cli.progress import Shown
from jrnl.cli.stopping import Stopping
from jrnl.cli.tell import complain
from jrnl.cli.units import DURATION, URL, count_text, size_text
from jrnl.errors import StoreLocked

if TYPE_CHECKING:
    from jrnl.control.report import Row

_LOCKED_SECONDS = 2.0  # for another command to end


class Over(Exception):
    """The command was told to end."""


class Followed(Shown):
    """A report that shows rows as they come, and ends what it is given to once it is told to."""

    first = "archived at {url}, up to state {seq:,}"
    again = "it is archived again"

    def __init__(self, what: str, stopping: Stopping, *, as_json: bool) -> None:
        super().__init__(what, say_rows if as_json else self._say)
        self._stopping, self._as_json = stopping, as_json
        self._problem: str | None = None
        self.last: Row | None = None

    def progress(self, done: int, total: int) -> None:
        """Move the bar. Raises Over."""
        self.wait(0)
        if self.last is None:
            super().progress(done, total)

    def wait(self, seconds: float) -> None:
        """Wait for so long. Raises Over."""
        if self._stopping.wait(seconds):
            raise Over

    def _say(self, rows: list[Row]) -> None:
        """Say where it begins, and what goes wrong and is right again; states are not told."""
        for row in rows:
            if self.last is None and row["seq"] >= 0:
                say(self.first.format(**row))
                self.last = row
            if row["problem"] != self._problem:
                self._problem = row["problem"]
                complain(self._problem or self.again)
        sys.stdout.flush()


def say_rows(rows: list[Row]) -> None:
    """Write each row as a JSON object, at once."""
    for row in rows:
        say_json(row)
    sys.stdout.flush()


@command(
    "jrnlctl archive disk.jrnl s3://backups/disk",
    "jrnlctl archive disk.jrnl /mnt/nas/disk --once",
    "jrnlctl archive disk.jrnl s3://backups/disk --keep 30d --lag-at-most 5s",
)
@path_argument
@click.argument("url", type=URL)
@click.option("--once", is_flag=True, help="Archive what is written by now, and end.")
@click.option(
    "--collect", is_flag=True,
    help="With --once: delete what has not been needed for --grace, too.",
)  # fmt: skip
@click.option(
    "--keep", type=DURATION, metavar="DURATION",
    help="How long states stay in the archive.  [default: for ever]",
)  # fmt: skip
@click.option(
    "--grace", type=DURATION, metavar="DURATION",
    help="How long what is not needed any more stays, for whoever reads.  [default: 1d]",
)  # fmt: skip
@click.option(
    "--interval", type=DURATION, metavar="DURATION",
    help="How often what is durable is sent, however little.  [default: 1s]",
)  # fmt: skip
@click.option(
    "--lag-at-most", type=DURATION, metavar="DURATION",
    help="Writers wait while the archive is further behind than this.",
)  # fmt: skip
@json_option
def archive(
    path: str,
    url: str,
    once: bool,
    collect: bool,
    keep: float | None,
    grace: float | None,
    interval: float | None,
    lag_at_most: float | None,
    as_json: bool,
) -> None:
    """Send a store's history to an object store, until Ctrl-C or SIGTERM.

    URL is s3://bucket/prefix, of any store that speaks S3, or a folder; any state in it can be had
    on another machine with 'restore-from'. What becomes durable is sent within a second. It is
    asynchronous: 'info' says how far it is behind. Meanwhile the other commands work on the store.
    While another process serves the store, that process archives it, with the credentials of its
    own environment, for as long as this command runs; or have 'serve --archive' do it.

    Credentials and the endpoint come from the environment alone: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL. Whoever archives to an
    address takes it over: the one who did before is stopped.
    """
    if collect and not once:
        raise click.UsageError("--collect is for --once; else it is done each hour")
    arguments = {"url": url, "once": once, "collect": collect, "keep": keep, "grace": grace,
                 "interval": interval, "lag_at_most": lag_at_most}  # fmt: skip
    if once:
        done = perform(path, "archive", "archiving", **arguments)
        say_json(done) if as_json else _say_archived(done)
        return
    with ExitStack() as restoring:
        report = Followed("archiving", Stopping(restoring), as_json=as_json)
        with suppress(Over), report, advising(path):
            _follow_store(path, arguments, report)


def _follow_store(path: str, arguments: dict[str, Any], report: Followed) -> None:
    """Archive a store until the report raises, here or where it is served."""
    deadline = time.monotonic() + _LOCKED_SECONDS
    while not control.is_served(path):
        try:
            store = open_store(path)
        except StoreLocked:  # for a moment, by another command; or a serving process begins
            if time.monotonic() >= deadline:
                raise
            report.wait(0.05)
            continue
        with store, control.ControlServer(store):
            control.OPERATIONS["archive"](store, report, arguments)
    control.call(path, "archive", arguments, report)


def _say_archived(done: Row) -> None:
    say(f"archived at {done['url']}, up to state {done['seq']:,}")
    if "collected" in done:
        collected = done["collected"]
        say(
            f"deleted {count_text(collected['objects'], 'object')} of "
            f"{size_text(collected['bytes'])}, {count_text(collected['manifests'], 'manifest')}"
        )
