"""Commands that make stores, and name their states."""

from __future__ import annotations

import os

import rich_click as click

from jrnl.api import create as create_store
from jrnl.cli.common import (
    absolute,
    command,
    confirm,
    json_option,
    path_argument,
    perform,
    point_option,
    say,
    say_json,
    volume_option,
    yes_option,
)
from jrnl.cli.progress import Shown
from jrnl.cli.units import PATH, SIZE, count_text, size_text
from jrnl.sizes import parse_size


@command(
    "jrnlctl create disk.jrnl --size 8GiB --journal 1GiB",
    "jrnlctl create db.jrnl --volume root=8GiB --volume log=1GiB",
    "jrnlctl create vm.jrnl --from golden.img",
)
@click.argument("path", type=PATH)
@click.option("--size", type=SIZE, help="The size of the one volume, which is called 'data'.")
@click.option(
    "--volume", "volumes", multiple=True, metavar="NAME=SIZE", help="A volume; give one for each."
)
@click.option(
    "--from", "sources", multiple=True, metavar="[NAME=]IMAGE",
    help="A file or block device whose content the volume begins with.",
)  # fmt: skip
@click.option(
    "--journal", type=SIZE, default="64MiB", show_default=True,
    help="How much is remembered: bytes for entries and what they overwrote.",
)  # fmt: skip
@click.option(
    "--images", type=click.Choice(["both", "after"]), default="both", show_default=True,
    help="What an entry keeps: with 'after', a state needs a snapshot before it.",
)  # fmt: skip
@click.option(
    "--overflow", type=click.Choice(["evict", "fold", "refuse"]), default="evict",
    show_default=True,
    help="When the journal is full: the oldest entries leave, or do so once the oldest snapshot "
    "has taken them in, or writes are refused.",
)  # fmt: skip
@click.option(
    "--sync", type=click.Choice(["flush", "always"]), default="flush", show_default=True,
    help="What was written is durable after a flush, or after each write.",
)  # fmt: skip
def create(
    path: str,
    size: int | None,
    volumes: tuple[str, ...],
    sources: tuple[str, ...],
    journal: int,
    images: str,
    overflow: str,
    sync: str,
) -> None:
    """Make a store: a folder with volumes and their journal.

    Sizes are bytes, or like 64KiB, 64MiB, 1GiB. A volume takes no room before it is written to.
    """
    named = dict(_named_size(text) for text in volumes)
    if len(named) != len(volumes):
        raise click.BadParameter("each volume has a name of its own", param_hint="--volume")
    source = _sources(sources, list(named))
    if size is None and not named and not source:
        raise click.UsageError("say what is in it: --size, --volume or --from")
    with Shown("making the store"):
        store = create_store(
            path, size=size, volumes=named or None, source=source, journal=journal,
            images=images, overflow=overflow, sync=sync,
        )  # fmt: skip
        with store:
            made = store.options
    told = ", ".join(f"{name} of {size_text(length)}" for name, length in made.volumes.items())
    say(f"{path}: {told}; a journal of {size_text(made.journal)}")


def _named_size(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not like NAME=SIZE", param_hint="--volume")
    return name, parse_size(size, f"size of {name!r}")


def _sources(given: tuple[str, ...], volumes: list[str]) -> str | dict[str, str] | None:
    if not given:
        return None
    [first, *others] = given
    name = first.partition("=")[0]
    is_path = "=" not in first or (name not in volumes and os.path.exists(first))
    if is_path and not others:
        return first
    pairs = (text.partition("=") for text in given)
    found = {name: path for name, equals, path in pairs if equals}
    if len(found) != len(given):
        raise click.BadParameter(
            "several images are given as NAME=IMAGE, each for another volume", param_hint="--from"
        )
    return found


@command(
    "jrnlctl mark disk.jrnl before-upgrade",
    "jrnlctl mark disk.jrnl last-good --at 2026-03-01T12:00",
)
@path_argument
@click.argument("name")
@point_option("--at", told="The state; the present one by default.")
@click.option("--pin", "pinned", is_flag=True, help="Keep its state, whatever is written.")
@click.option("--unpin", is_flag=True, help="Let a pinned mark go on as an ordinary one.")
@json_option
def mark(path: str, name: str, at: str | None, pinned: bool, unpin: bool, as_json: bool) -> None:
    """Give a state a name, by default the present one.

    A mark is an entry of the journal, and lives as long as its state can be rebuilt; one that is
    pinned keeps it. All that was written before is durable once this returns. With --at it is an
    earlier state that gets the name; a rewind over the moment when it got it takes it away.
    """
    if unpin:
        if pinned or at is not None:
            raise click.UsageError("--unpin is for a mark that is there, alone")
        done = perform(path, "unpin", "unpinning", name=name)
        say_json(done) if as_json else say(f"{name}: not pinned any more")
        return
    made = perform(path, "mark", "marking", name=name, at=at, pinned=pinned)
    if as_json:
        say_json(made)
    else:
        say(f"{made['name']}: state {made['seq']:,}")


@command("jrnlctl snapshot disk.jrnl monday", "jrnlctl snapshot disk.jrnl monday --delete")
@path_argument
@click.argument("name")
@click.option("--delete", is_flag=True, help="Delete the snapshot of this name.")
@yes_option
@json_option
def snapshot(path: str, name: str, delete: bool, yes: bool, as_json: bool) -> None:
    """Take a snapshot of the present state, or delete one.

    A snapshot is a copy with checksums of its own: it outlives what the journal forgets, and
    damage to the volumes.
    """
    if delete and not yes:
        confirm(f"delete the snapshot {name!r} of {path}?")
    operation = "delete-snapshot" if delete else "snapshot"
    done = perform(path, operation, "taking a snapshot", name=name)
    if as_json:
        say_json(done)
    else:
        say(f"{done['name']}: {'deleted' if delete else 'a snapshot of'} state {done['seq']:,}")


@command("jrnlctl replay disk.jrnl ext4.log")
@path_argument
@click.argument("log", type=PATH)
@volume_option
@json_option
def replay(path: str, log: str, volume: str | None, as_json: bool) -> None:
    """Write a recorded log of a disk onto a volume, entry by entry.

    LOG is in the format of Linux's dm-log-writes and QEMU's blklogwrites, plain or .xz. Each of
    its entries becomes one of the journal, and its marks become marks.
    """
    done = perform(path, "replay", "replaying", log=absolute(log), volume=volume)
    if as_json:
        say_json(done)
    else:
        told = count_text(done["entries"], "entry")
        say(f"{told} replayed onto {done['volume']}; state {done['seq']:,}")
