"""Commands that look at a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rich_click as click

from jrnl.cli.common import (
    absolute,
    base_option,
    command,
    json_option,
    path_argument,
    perform,
    perform_on_any,
    point_argument,
    point_option,
    say,
    say_columns,
    say_json,
    to_option,
    volume_option,
)
from jrnl.cli.units import OFFSET, PATH, SIZE, age_text, count_text, size_text, time_shown

Row = dict[str, Any]


@command("jrnlctl info disk.jrnl")
@path_argument
@json_option
def info(path: str, as_json: bool) -> None:
    """Say what a store is, what it remembers, and what has a name."""
    told = perform(path, "info", "looking")
    if as_json:
        say_json(told)
        return
    window, journal, parent = told["window"], told["journal"], told.get("parent")
    from_, until = (time_shown(window[f"{end}_time"]) for end in ("oldest", "newest"))
    kept = f"images {told['images']}, overflow {told['overflow']}, sync {told['sync']}"
    used = f"{size_text(journal['used'])} of {size_text(journal['capacity'])}"
    say_columns([
        ["store", told["path"]],
        *([["fork of", f"{parent['key']}, state {parent['seq']:,}"]] if parent else []),
        ["state", f"{told['seq']:,}, {age_text(window['newest_time'])}"],
        ["window", f"{window['oldest']:,} to {window['newest']:,}, {from_} to {until}"],
        ["journal", f"{used}, {count_text(journal['entries'], 'entry')}; {kept}"],
        *([f"keep at {rule}", f"{seconds:,.0f} s"] for rule in ("least", "most")
          if (seconds := told[f"keep_at_{rule}"]) is not None),
        *_archived(told["archive"]),
    ])  # fmt: skip
    _say_part("volumes", [[name, size_text(size)] for name, size in told["volumes"].items()])
    _say_part("snapshots", [_named(*pair) for pair in told["snapshots"].items()])
    _say_part("marks", [_named(*pair) for pair in told["marks"].items()])
    recoveries = told["recoveries"].items()
    _say_part("recoveries", [
        [number, f"state {each['seq']:,}", f"from {each['base']}"] for number, each in recoveries
    ])  # fmt: skip
    _say_part("problems", [[problem] for problem in told["problems"]])


def _archived(archive: Row | None) -> list[list[str]]:
    if archive is None:
        return []
    state = "no state yet" if archive["seq"] < 0 else f"state {archive['seq']:,}"
    behind = f", {archive['age']:,.1f} s behind" if archive["age"] else ""
    problem = "" if archive["problem"] is None else f": {archive['problem']}"
    return [["archive", f"{archive['url']}, {state}{behind}{problem}"]]


def _say_part(title: str, rows: list[list[str]]) -> None:
    if rows:
        say(title)
        say_columns(rows, "  ")


def _named(name: str, each: Row) -> list[str]:
    more = "" if each.get("complete", True) else "being copied"
    return [name, f"state {each['seq']:,}", time_shown(each["time"]), more]


@command(
    "jrnlctl log disk.jrnl",
    "jrnlctl log disk.jrnl --from 1200 --to before-upgrade",
    """jrnlctl log disk.jrnl --json | jq 'select(.kind == "write") | .length'""",
    "jrnlctl log ext4.log --parquet entries.parquet",
)
@click.argument("path", metavar="STORE|LOG", type=PATH, is_eager=True)
@point_option("--from", "start", told="The first entry: a number, or a point.")
@point_option("--to", "stop", told="The last entry: a number, or a point.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--parquet", metavar="FILE", type=PATH, help="Write a Parquet file instead.")
def log(path: str, start: str | None, stop: str | None, as_json: bool, parquet: str | None) -> None:
    """List the entries of a journal, or of a log of dm-log-writes, the oldest first.

    An entry's number is that of the state after it.
    """
    if as_json and parquet is not None:
        raise click.UsageError("--json and --parquet are two answers: ask for one")
    what = "reading the entries"
    bounds: Row = {"start": start, "stop": stop}
    if parquet is not None:
        perform_on_any(path, "parquet", what, out=absolute(parquet), **bounds)
        return
    show = _say_rows if as_json else _say_entries
    perform_on_any(path, "log", what, show, **bounds)


def _say_rows(rows: list[Row]) -> None:
    for row in rows:
        say_json(row)


def _say_entries(rows: list[Row]) -> None:
    for row in rows:
        say(_entry_line(row))


def _entry_line(row: Row) -> str:
    time = f"{time_shown(row['time']):<26}  " if "time" in row else ""  # a log has none
    head = f"{row['seq']:>10}  {time}{row['kind']:<7}"
    if "length" in row:
        return f"{head}  {row['volume']}  at {row['offset']}  {size_text(row['length'])}"
    words = [head, row.get("name") or "", f"to state {row['state']}" if "state" in row else ""]
    return "  ".join(word for word in words if word).rstrip()


@command("jrnlctl diff disk.jrnl before-upgrade 1250")
@path_argument
@point_argument("a")
@point_argument("b")
@volume_option
@click.option("--exact", is_flag=True, help="Read both states there, and compare them.")
@json_option
def diff(path: str, a: str, b: str, volume: str | None, exact: bool, as_json: bool) -> None:
    """Say where two states differ.

    That is what was written between them; with --exact, the bytes that are not the same.
    """
    extents: list[Row] = []
    total = perform(path, "diff", "comparing", extents.extend, a=a, b=b, volume=volume, exact=exact)
    if as_json:
        say_json({"extents": extents, "bytes": total["bytes"]})
        return
    say_columns([
        [row["volume"], f"at {row['offset']}", size_text(row["length"])] for row in extents
    ])  # fmt: skip
    say(f"{count_text(len(extents), 'extent')}, {size_text(total['bytes'])}")


@command("jrnlctl history disk.jrnl 1MiB 4KiB")
@path_argument
@click.argument("offset", type=OFFSET)
@click.argument("length", type=SIZE)
@volume_option
@json_option
def history(path: str, offset: int, length: int, volume: str | None, as_json: bool) -> None:
    """Say who wrote in a range of a volume, the oldest entry first."""
    entries: list[Row] = []
    show: Callable[[list[Row]], object] = entries.extend if as_json else _say_entries
    count = perform(path, "history", "searching", show, offset=offset, length=length, volume=volume)
    if as_json:
        say_json({"entries": entries})
    else:
        say(f"{count_text(count, 'entry')} wrote there")


@command("jrnlctl plan disk.jrnl --to before-upgrade")
@path_argument
@to_option
@base_option
@json_option
def plan(path: str, to: str, base: str | None, as_json: bool) -> None:
    """Say how a state would be rebuilt, and what that would move."""
    told = perform(path, "plan", "planning", to=to, base=base)
    if as_json:
        say_json(told)
        return
    say_columns([
        ["route", f"{told['route']} from {told['base']}"],
        ["entries", f"{told['entries']:,}"],
        ["copies", size_text(told["bytes"])],
        ["a restore compares", size_text(told["compared"])],
        ["oldest state after it", f"{told['oldest_after_restore']:,}"],
    ])  # fmt: skip


@command("jrnlctl verify disk.jrnl")
@path_argument
@json_option
def verify(path: str, as_json: bool) -> int:
    """Read everything, and hold it against its checksums.

    Exits with 1 where anything is wrong.
    """
    found = perform(path, "verify", "verifying")
    if as_json:
        say_json(found)
    else:
        for problem in found["problems"]:
            say(problem)
        checked = f"{count_text(found['entries'], 'entry')}, "
        checked += f"{count_text(found['snapshots'], 'snapshot')}, "
        checked += f"{size_text(found['volume_bytes'])} of volumes"
        say(f"{checked}: {'all is well' if found['ok'] else 'damaged'}")
    return 0 if found["ok"] else 1
