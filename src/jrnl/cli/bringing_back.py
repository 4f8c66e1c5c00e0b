"""Commands that bring a store's history back from an object store, and hold it to what it says."""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import rich_click as click

from jrnl import archive as archives
from jrnl.cli.archiving import Followed, Over
from jrnl.cli.common import beside, command, dry_run_option, json_option, say, say_json
from jrnl.cli.progress import Shown
from jrnl.cli.stopping import Stopping
from jrnl.cli.units import DURATION, PATH, POINT, URL, count_text, size_text, time_shown
from jrnl.control.files import check_outside
from jrnl.control.points import parse_text
from jrnl.errors import StoreExists

if TYPE_CHECKING:
    from jrnl.archive.standby import Standby
    from jrnl.control.report import Row

_LOOK_SECONDS = 0.1

at_option = click.option(
    "--at", type=POINT, metavar="POINT", help="The state; the newest one by default."
)


@command(
    "jrnlctl restore-from s3://backups/disk disk.jrnl",
    "jrnlctl restore-from s3://backups/disk then.jrnl --at 2026-03-01T12:00 --dry-run",
)
@click.argument("url", type=URL)
@click.argument("path", type=PATH)
@at_option
@dry_run_option
@json_option
def restore_from(url: str, path: str, at: str | None, dry_run: bool, as_json: bool) -> None:
    """Make a store again from an archive, at any state that was archived.

    What can be rebuilt in it reaches back from that state as far as its journal holds. The new
    store is whole, or there is none. The archive stays as it is; it goes on with the store it was
    of: archive the new one elsewhere, or have 'follow --promote' take the archive over.
    """
    if "://" not in url:
        check_outside(path, url)
    if os.path.lexists(path):
        raise StoreExists(errno.EEXIST, "there is something there already", path)
    if dry_run:
        with Shown("looking"), archives.open(url, _point(at)) as state:
            told = {
                "path": path,
                "state": state.seq,
                "time": state.time.isoformat(),
                "volumes": {name: volume.size for name, volume in state.volumes.items()},
                "bytes": sum(int(v.data_extents()["length"].sum())
                             for v in state.volumes.values()),
            }  # fmt: skip
        say_json(told) if as_json else say(f"would make {_made_text(told)}")
        return
    with Shown("restoring") as report:
        made = archives.restore(url, path, _point(at), progress=report.progress)
    with made as store:
        told = {
            "path": path,
            "state": store.seq,
            "time": store.window_time.newest.isoformat(),
            "volumes": {name: volume.size for name, volume in store.volumes.items()},
            "window": store.window._asdict(),
        }  # fmt: skip
    say_json(told) if as_json else say(_made_text(told))


def _made_text(told: Row) -> str:
    volumes = ", ".join(f"{name} of {size_text(size)}" for name, size in told["volumes"].items())
    window = told.get("window")
    more = f"; a window from {window['oldest']:,} on" if window else ""
    more += f"; {size_text(told['bytes'])} of data" if "bytes" in told else ""
    return f"{told['path']}: state {told['state']:,} of {time_shown(told['time'])}, {volumes}{more}"


@command(
    "jrnlctl follow s3://backups/disk standby.jrnl",
    "jrnlctl follow s3://backups/disk standby.jrnl --promote",
)
@click.argument("url", type=URL)
@click.argument("path", type=PATH)
@click.option("--promote", is_flag=True, help="Bring it up to date, take over, and end.")
@click.option(
    "--poll", type=DURATION, metavar="DURATION",
    help="How often it looks for what is new.  [default: 1s]",
)  # fmt: skip
@json_option
def follow(url: str, path: str, promote: bool, poll: float | None, as_json: bool) -> None:
    """Keep a store up to date from an archive, until Ctrl-C or SIGTERM; or have it take over.

    PATH is made, or is one that followed before: it goes on where it was. Meanwhile nobody else can
    open it. With --promote it is brought up to date for the last time, and the archive is taken
    over: what wrote to it before archives nothing more. Then 'serve PATH --archive URL', say, goes
    on with it.
    """
    if "://" not in url:
        check_outside(path, url)
    options: dict[str, Any] = {} if poll is None else {"poll": poll}
    with ExitStack() as restoring:
        report = _Following("following", Stopping(restoring), as_json=as_json)
        with (
            suppress(Over),
            report,
            archives.follow(url, path, progress=report.progress, **options) as standby,
        ):
            if promote:
                _promote(standby, as_json=as_json)
            else:
                _follow_archive(standby, report)


def _promote(standby: Standby, *, as_json: bool) -> None:
    with standby.promote(archive=False) as store:
        seq, made = store.seq, store.window_time.newest.isoformat()
    if as_json:
        say_json({"url": standby.url, "path": standby.path, "seq": seq, "time": made})
    else:
        say(f"{standby.path}: promoted at state {seq:,} of {time_shown(made)}")


class _Following(Followed):
    """A report of a standby."""

    first = "following {url}, state {seq:,}"
    again = "it follows again"


def _follow_archive(standby: Standby, report: _Following) -> None:
    last: Row | None = None
    while True:
        problem = None if standby.problem is None else str(standby.problem)
        row = {"url": standby.url, "seq": standby.seq, "archived": standby.archived_seq,
               "lag": round(standby.lag, 3), "problem": problem}  # fmt: skip
        if row != last:
            report.rows([row])
            last = row
        report.wait(_LOOK_SECONDS)


@command("jrnlctl archive-verify s3://backups/disk", "jrnlctl archive-verify /mnt/nas/disk --json")
@click.argument("url", type=URL)
@click.option(
    "--grace", type=DURATION, metavar="DURATION",
    help="For how long what is not needed any more may be there.  [default: 1d]",
)  # fmt: skip
@json_option
def archive_verify(url: str, grace: float | None, as_json: bool) -> int:
    """Read a whole archive, and hold it against its checksums.

    Nothing that is named may be missing; nothing may be there that is named by nothing, but what is
    younger than --grace. Exits with 1 where anything is wrong.
    """
    options = {} if grace is None else {"grace": grace}
    with Shown("verifying") as report:
        found = archives.verify(url, report.progress, **options)
    if as_json:
        say_json(found._asdict())
        return 0 if found.ok else 1
    for problem in found.problems:
        say(problem)
    counts = [count_text(getattr(found, f"{noun}s"), noun)
              for noun in ("manifest", "segment", "snapshot", "pack")]  # fmt: skip
    checked = f"{', '.join(counts)}, {size_text(found.bytes)}, up to state {found.seq:,}"
    say(f"{checked}: {'all is well' if found.ok else 'damaged'}")
    return 0 if found.ok else 1


@command(
    "jrnlctl drill s3://backups/disk --at before-upgrade --check 'e2fsck -fn {}'",
    "jrnlctl drill /mnt/nas/disk --check './check.sh {root} {log}' --record drill.json",
)
@click.argument("url", type=URL)
@at_option
@click.option(
    "--check", metavar="COMMAND",
    help="The command, in which {} stands for the path of the volume, {NAME} for one of several.",
)  # fmt: skip
@click.option("--record", type=PATH, metavar="FILE", help="Write what was found here, as JSON.")
@click.option(
    "--scratch", type=PATH, metavar="FOLDER",
    help="Where the state is restored to, and removed from.  [default: for temporary files]",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="A check that takes longer is ended, and has failed.",
)  # fmt: skip
@json_option
def drill(
    url: str,
    at: str | None,
    check: str | None,
    record: str | None,
    scratch: str | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """Restore a state from an archive into scratch, verify it, run a check on it, and remove it.

    Exits with 1 where the state cannot be restored, or anything is wrong with it, or the check ends
    with another exit status than 0. The record says what was restored, how long each part took, and
    what the check has said. The command may write to the volume's file.
    """
    if record is not None and "://" not in url:
        check_outside(record, url)
    with Shown("drilling") as report:
        done = archives.drill(url, _point(at), check, scratch, report.progress, timeout=timeout)
    told = done.record()
    if record is not None:
        with open(record, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=2, ensure_ascii=False)
            file.write("\n")
    with beside(record):
        say_json(told) if as_json else _say_drilled(told)
    return 0 if done.ok else 1


def _say_drilled(told: Row) -> None:
    if told["state"] is not None:
        took = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in told["seconds"].items())
        say(
            f"state {told['state']:,} of {time_shown(told['state_time'])}, "
            f"{size_text(told['bytes'])}: {took}"
        )
    for problem in told["problems"]:
        say(problem)
    if told["output"]:
        say(told["output"])
    say("the drill has passed" if told["ok"] else f"the drill has failed: {_why(told)}")


def _why(told: Row) -> str:
    if told["error"] is not None:
        return str(told["error"])
    if told["problems"]:
        return "the restored state is damaged"
    if told["exit_code"] is None:
        return "the check was ended, as too slow"
    return f"the check ended with status {told['exit_code']}"


def _point(text: str | None) -> Any:
    """Return a point of an archive, which is asked whether there is one of that name."""
    return None if text is None else parse_text(text, [text])
