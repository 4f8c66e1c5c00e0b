"""Commands that test: what power cuts leave, and a demonstration."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

import rich_click as click

from jrnl import demo as demonstration
from jrnl._core import kernel_in_use
from jrnl.cli.common import (
    absolute,
    beside,
    command,
    json_option,
    perform_on_any,
    point_option,
    say,
    say_columns,
    say_json,
)
from jrnl.cli.progress import Shown
from jrnl.cli.units import PATH, SIZE
from jrnl.control.files import check_outside
from jrnl.measure import measure

_LONG_NS = 100_000
_AGAIN = re.compile(r"^again: jrnl\.crash\.state\(history, '(.*)'\)$", re.MULTILINE)


@command(
    "jrnlctl crash disk.jrnl --check 'e2fsck -fn {}' --jobs 2",
    "jrnlctl crash ext4.log --check './check.sh {}' --mode torn --limit 500",
    "jrnlctl crash ext4.log --check 'e2fsck -fn {}' --state 912-s5",
)
@click.argument("path", metavar="STORE|LOG", type=PATH)
@click.option(
    "--check", required=True, metavar="COMMAND",
    help="The command, in which {} stands for a path of the volume, {NAME} for one of several.",
)  # fmt: skip
@click.option(
    "--mode", type=click.Choice(["prefix", "subset", "torn"]), default="subset",
    show_default=True, help="What there may be of what no flush covers.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=1, help="How many run side by side.")
@click.option("--limit", type=click.IntRange(1), help="At most so many states, spread over all.")
@point_option("--from", "start", told="The first moment at which the power fails.")
@point_option("--to", "stop", told="The last one.")
@click.option("--seed", type=int, default=0, help="Of what is drawn.")
@click.option("--reduce", type=click.Choice(["pattern"]), help="One state for each pattern.")
@click.option(
    "--damage", type=click.Choice(["garbage", "unreadable"]),
    help="With --mode torn: sectors that are neither old nor new.",
)  # fmt: skip
@click.option("--failures", type=click.IntRange(1), default=10, help="End after so many.")
@click.option("--bundles", type=PATH, help="A folder for all that failures take.")
@click.option(
    "--junit", type=click.Path(dir_okay=False, readable=False), help="Write a JUnit report here."
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="A check that takes longer is ended, and its state is bad.",
)  # fmt: skip
@click.option("--state", "id", metavar="ID", help="Look at this one state only.")
@click.option("--size", type=SIZE, help="The volume's size, of a log.")
@click.option("--source", type=PATH, help="What the volume held before, of a log.")
@json_option
def crash(path: str, check: str, junit: str | None, as_json: bool, **options: Any) -> int:
    """Hold a check against what the disk may hold after a power cut.

    Of what was written since the last flush, a disk may have kept anything. These states are made
    one after the other, and the command is run on each: it is bad where the exit status is not 0.
    The path is of a store, or of a log of dm-log-writes. Exits with 1 where a state is bad.
    """
    words = _words(check)
    for place in (path, options["source"]):
        check_outside(junit, place)
    id, size, source = options.pop("id"), options.pop("size"), options.pop("source")
    name, arguments = "crash-state", {"id": id, "timeout": options["timeout"]}
    if id is None:
        name = "crash"
        arguments = {
            "jobs": options["jobs"], "mode": options["mode"], "limit": options["limit"],
            "seed": options["seed"], "start": options["start"], "stop": options["stop"],
            "reduce": options["reduce"], "damage": options["damage"],
            "failures_max": options["failures"], "bundles": absolute(options["bundles"]),
            "timeout": options["timeout"],
        }  # fmt: skip
    found = perform_on_any(
        path, name, "crashing", size=size, source=source, check=words, **arguments
    )
    if junit is not None and id is None:
        with open(junit, "w", encoding="utf-8") as file:
            file.write(found["junit"])
    with beside(junit):
        _say_found(found, as_json=as_json)
    return 0 if found["ok"] else 1


def _words(check: str) -> list[str]:
    try:
        words = shlex.split(check)
    except ValueError as error:
        raise click.BadParameter(f"{check!r}: {error}", param_hint="--check") from error
    if words and "/" in words[0]:  # where a store is served, it runs in the serving process
        words[0] = os.path.abspath(words[0])
    return words


def _say_found(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        found.pop("junit", None)
        say_json(found)
        return
    say(_AGAIN.sub(r"again: the same with --state \1", found["text"]))
    if "id" in found:
        say(found["message"] or "the check passes on it")


@command("jrnlctl bench")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="How many.")
@json_option
def bench(rounds: int, as_json: bool) -> None:
    """Time the engine on this machine, in memory, beside the same copies by hand.

    It takes a few seconds. By hand is NumPy, without headers and checksums; going back by hand is a
    copy of the whole volume. All figures, on disk too and against other software, are made by
    'make bench' in a checkout, and stand in docs/benchmarks.md.
    """
    with Shown("measuring") as report:
        rows = measure(rounds, report.progress)
    if as_json:
        say_json({"kernel": kernel_in_use, "rows": rows})
        return
    say_columns([["", "jrnl", "by hand", "ratio"], *(_measured(row) for row in rows)])


def _measured(row: dict[str, Any]) -> list[str]:
    times = (_time_text(row[f"{who}_ns"]) for who in ("jrnl", "by_hand"))
    return [row["what"], *times, f"{row['ratio']:.3g}"]


def _time_text(time_ns: float) -> str:
    return f"{time_ns:,.0f} ns" if time_ns < _LONG_NS else f"{time_ns / 1e6:,.2f} ms"


@command("jrnlctl demo", "jrnlctl demo ext4.log.xz")
@click.argument("log", type=PATH, required=False)
def demo(log: str | None) -> None:
    """Replay a recorded disk history, and go back and forth in it.

    LOG is in the format of Linux's dm-log-writes and QEMU's blklogwrites, plain or .xz; without it
    one is made up.
    """
    demonstration.run(log)
