"""The rules that can be switched off, and the kind of life in which their absence shows.

`python -m tests.protocol.switches NAME` shows how a missing rule is noticed; with --seed, --op and
--state it replays that one state.
"""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

from tests.protocol.bench import OPS, Bench, Crash, Plan
from tests.protocol.disk import SECTOR, Disk, crash_choices
from tests.protocol.model import Failure
from tests.protocol.opening import Store, create
from tests.protocol.store import StorePoisoned


@dataclass(frozen=True)
class Switch:
    rule: str
    what: str  # what is done instead
    script: tuple[str, ...] = ()
    images: str = "both"
    fail: float = 0.0  # how often a life has a failing sync
    seed: int = 0  # where it shows soon


def script(text: str) -> tuple[str, ...]:
    """Spell out a script: `write*3 flush` is three writes and a flush."""
    words = (word.partition("*") for word in text.split())
    return tuple(name for name, _, times in words for _ in range(int(times or 1)))


FLUSHES = script("write flush " * 6)
COPIED = "write flush snapshot write copy*3 write copy*4 "
SNAPSHOT = script(COPIED + "write flush")
FOLD = script(COPIED + "write flush write flush start finish fold write flush")
PINNED = script("write flush snapshot copy*2 " + "write*3 flush start finish " * 4 + "copy*5")
REWIND = script("write flush write flush start finish write*2 flush start write rewind write flush")
COPY = script("write flush snapshot write copy*4 rewind copy*4 write flush")
RESTORE = script("write*6 flush write*6 flush start restore write flush")
LATE = script("write flush write append write commit start finish write flush start finish")
PAUSE = script("write flush snapshot write*2 flush write flush start finish copy*7 write flush")
KILLED = script("write flush write*2 append")
SWITCHES = {
    "flush_sync": Switch("R3", "a flush acknowledges without a sync of the log"),
    "late_ack": Switch("R5", "a sync answers for entries written after it began", LATE),
    "freeze": Switch("R5", "writes during a flush join the data that it froze", LATE),
    "writeback_active": Switch("R5", "write-back takes data that is in no durable group"),
    "volume_sync": Switch("R5", "the volume-synced seq advances without a sync of the volumes"),
    "synced_early": Switch("R5", "the volume-synced seq advances before the sync"),
    "record_first": Switch("R8+", "a group is written back that nothing else records"),
    "whole_sectors": Switch("R2", "redo writes only the bytes of the write into the sector"),
    "pack_groups": Switch("R3", "a small flush grows the last group, its header written again"),
    "seed_key": Switch("R3", "checksums without the store's key"),
    "seed_number": Switch("R3", "group checksums without the group's number"),
    "header_sum": Switch("R3", "group headers are taken without their checksum"),
    "image_sum": Switch("R3", "images are taken without their checksum"),
    "epoch_table": Switch("R7", "a group is taken under the epoch that it names itself", RESTORE),
    "epoch_order": Switch("R7", "a group is taken if epochs do not decrease", RESTORE),
    "open_epoch": Switch("R7", "opening begins no new epoch"),
    "probe": Switch("R8", "no look for later groups behind an invalid one"),
    "watermark": Switch("R8", "the superblock's count of durable groups is not looked at"),
    "tail_first": Switch("R6", "log blocks are used again before the tail pointer is durable"),
    "evict_synced": Switch("R6", "entries are evicted that the volumes have not got"),
    "super_sync_between": Switch("R7", "both superblock copies are written under one sync"),
    "super_both": Switch("R7", "only one superblock copy is written, in turn"),
    "heal": Switch("R7", "the older superblock copy stays as it is at opening", REWIND),
    "super_sync_open": Switch("R8+", "the copy that was read is not synced at opening"),
    "open_log_sync": Switch("R8", "the tail is taken without a sync of the log", KILLED),
    "direct": Switch("R8", "opening reads through the page cache", FLUSHES, fail=1.0),
    "poison": Switch("R9", "a failed sync is tried again", FLUSHES, fail=1.0, seed=1),
    "create_files": Switch("R11", "creation does not sync the files"),
    "create_folder": Switch("R11", "creation does not sync the store's folder"),
    "create_parent": Switch("R11", "creation does not sync the folder above"),
    "create_rename": Switch("R11", "the store is created under its own name"),
    "pin": Switch("R10", "entries are evicted that a snapshot's copy needs", PINNED),
    "patch": Switch("R10", "a copy is not put right with the before-images", SNAPSHOT),
    "pause": Switch("R10+", "write-back goes on during a copy", PAUSE, "after"),
    "snapshot_sync": Switch("R10", "a snapshot is whole before its file is synced", SNAPSHOT),
    "snapshot_folder": Switch("R10", "a snapshot is whole before its name is", SNAPSHOT, seed=3),
    "fold_intent": Switch("R10", "fold writes over a snapshot without a durable intent", FOLD),
    "fold_sync": Switch("R10", "a fold is recorded before its sectors are synced", FOLD),
    "rewind_intent": Switch("R10", "rewind puts volumes back without a durable record", REWIND),
    "rewind_copy": Switch("R10+", "rewind does not wait for a snapshot's copy", COPY, seed=1),
    "undo_sync": Switch("R10", "rewind is recorded as done before the volumes are synced", REWIND),
    "reuse_early": Switch("R10", "rewind is recorded as done before the volumes are back", REWIND),
    "restore_intent": Switch("R10", "restore writes entries without an intent", RESTORE, seed=2),
    "image_sync": Switch("R10", "restore's intent comes before its image's sync", RESTORE, "after"),
}  # fmt: skip


def plan_for(name: str, seed: int, order: bool = False) -> Plan:
    switch, off = SWITCHES[name], frozenset([name])
    plan = Plan(seed, switch.images, off, states=8, inner=1, order=order, fail=switch.fail, ops=OPS)
    return replace(plan, script=switch.script, lives=2) if switch.script else plan


def hunt(name: str, seeds: int = 40, order: bool = False) -> Failure | None:
    """Return how the bench notices that a rule is missing."""
    if name in DIRECTED:
        return DIRECTED[name](frozenset([name]))
    first = SWITCHES[name].seed
    for seed in range(first, first + seeds):
        try:
            Bench(plan_for(name, seed, order)).run()
        except Failure as failure:
            return failure
    return None


def store_with(disk: Disk, key: int, off: frozenset[str]) -> Store:
    create(disk, "s", off, key=key)
    store = Store.open(disk, "s", off)
    for sector in range(3):
        store.write(0, sector * SECTOR, bytes([key + sector]) * SECTOR)
        store.flush()
    return store


def foreign_log(off: frozenset[str] = frozenset()) -> Failure | None:
    """Give a store the log of another store of the same shape and age."""
    disks = []
    for key in (7, 80):
        disks.append(Disk())
        store_with(disks[-1], key, off)
    disks[0].write("s/log", 0, disks[1].read("s/log"))
    store = Store.open(disks[0], "s", off)
    if store.sector((0, 0))[0] == 80:
        return Failure("a group of another store was taken")
    return None


def repeated_write(off: frozenset[str] = frozenset()) -> Failure | None:
    """Two torn groups at one place, of two lives, that make up a whole one of the first."""
    disk = Disk()
    first = store_with(disk, 7, off).seq
    for data, kept in ((b"A", ("new",) * 4 + ("old",)), (b"C", ("old",) * 4 + ("new",))):
        store = Store.open(disk, "s", off)
        store.write(0, 0, data * SECTOR)
        store.write(1, 0, b"B" * SECTOR)  # the host writes this again after the crash
        store.append()
        assert len(disk.changes) == len(kept)  # header, before, after, before, after
        disk = disk.crashed(kept)
    store = Store.open(disk, "s", off)
    if store.seq > first:
        return Failure("a write that a crash had undone comes back, in the place of another")
    return None


def killed_in_super(off: frozenset[str] = frozenset()) -> Failure | None:
    """Kill the process between a superblock's write and its sync; then the power fails."""
    disk = Disk()
    store = store_with(disk, 7, off)
    disk.before = lambda what, *_: stop() if what == "sync" else None
    with suppress(Crash):
        store.write_super()
    lost = []

    def look(*_) -> None:
        for choice in crash_choices(disk.changes, 4, 0, 0):
            try:
                Store.open(disk.crashed(choice), "s", off)
            except ValueError:
                lost.append(choice)

    disk.before = look
    Store.open(disk, "s", off)
    return Failure(f"no superblock is left: {lost[0]}") if lost else None


def stop() -> None:
    raise Crash(Disk())


def cut_back_twice(off: frozenset[str] = frozenset()) -> Failure | None:
    """A restore is cut back at opening; at the next opening its groups are still there, whole."""
    disk, logs = Disk(), []
    store = store_with(disk, 7, off)
    for sector in range(3):
        store.write(1, sector * SECTOR, b"x" * SECTOR)
    before = store.flush()

    def second_group(what: str, path: str, *_) -> None:
        logs.append((what, path) == ("write", "s/log"))
        if sum(logs) == 2:
            stop()

    disk.before = second_group
    with suppress(Crash):
        store.restore(0)
    for _ in range(2):
        disk = disk.crashed(("new",) * len(disk.changes))
        found = Store.open(disk, "s", off).seq
    return Failure(f"cut back to {before}, then {found} came back") if found != before else None


def dropped_pages(off: frozenset[str] = frozenset()) -> Failure | None:
    """A sync fails and the pages stay in the cache; the store is opened, then the power fails."""
    disk = Disk()
    store = store_with(disk, 7, off)
    store.write(0, 0, b"x" * SECTOR)
    disk.fail = (disk.syncs, "keep")
    with suppress(StorePoisoned):
        store.flush()
    disk.fail = None
    seen = Store.open(disk, "s", off).seq
    after = Store.open(disk.crashed(("new",) * len(disk.changes)), "s", off)
    if after.damage or after.seq < seen:
        return Failure(f"seq {seen} was served after reopening, then was gone: {after.damage}")
    return None


DIRECTED = {
    "seed_key": foreign_log,
    "open_epoch": repeated_write,
    "super_sync_open": killed_in_super,
    "epoch_table": cut_back_twice,
    "epoch_order": cut_back_twice,
    "direct": dropped_pages,
}


def total(plans: list[Plan]) -> Counter[str]:
    return sum((Bench(plan).run() for plan in plans), Counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SWITCHES)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--op", type=int)
    parser.add_argument("--state", type=int, default=0)
    args = parser.parse_args()
    if args.seed is None:
        print(hunt(args.name))
    else:
        only = None if args.op is None else (args.op, args.state)
        Bench(replace(plan_for(args.name, args.seed), only=only)).run()
        print("nothing noticed")


if __name__ == "__main__":
    main()
