"""Cases that random lives reach too seldom, or never, built by hand.

Each raises Failure where the store breaks a promise; with every rule in place none does.
"""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import suppress
from pathlib import Path

import jrnl
from jrnl import FormatError, JrnlError, StoreLocked, StorePoisoned, superblock
from jrnl._core import FORMAT
from tests.crash.disk import NEW, OLD, SECTOR, Moment, Op, SimDisk
from tests.crash.expect import Check, Failure, volumes_of
from tests.crash.workload import STORE, Host, Shape

LOG, SUPERS = f"{STORE}/log", [f"{STORE}/{name}" for name in superblock.NAMES]
HEAD_BYTES = FORMAT["constants"]["LOG_HEAD_BYTES"]
ENTRY_BYTES = FORMAT["header_sizes"]["EntryHeader"]
GROUP_BYTES = FORMAT["constants"]["GROUP_SUMMED_BYTES"] + 8


class Killed(Exception):
    """The process ends at this operation."""


def host_after(names: str, shape: Shape | None = None) -> Host:
    """Return a host that has made a store and done these operations."""
    host = Host(shape or Shape(), random.Random(3))
    host.create()
    for name in names.split():
        host.do(name)
    return host


def cut(moment: Moment, what: int = NEW) -> SimDisk:
    """Return the disk after a power cut that everything unsynced survives, or nothing."""
    return moment.crashed((what,) * len(moment.changes))


def flipped(disk: SimDisk, path: str, at: int, bit: int = 0) -> SimDisk:
    other = cut(disk.moment())
    data = bytearray(other.read(path))
    data[at] ^= 1 << bit
    other.replace(path, bytes(data))
    return other


def look(host: Host, disk: SimDisk) -> None:
    """After damage: right bytes, or something that says what is wrong. Raises Failure."""
    try:
        store = host.open_on(disk)
    except JrnlError:
        return
    told = any("damaged" in problem for problem in store.problems)
    try:
        found = volumes_of(store)
    except JrnlError as error:
        if not told:
            raise Failure(f"no problem is told, and production is refused: {error}") from error
        return
    if store.seq < host.world.low and not told:
        raise Failure(f"no problem is told: acknowledged {host.world.low}, found {store.seq}")
    if found != host.model.states.get(store.seq):
        raise Failure(f"production is not state {store.seq}")


# The log, damaged.


def damaged_group_header() -> None:
    """A bit of each byte of a group's header flips; a later group is there."""
    host = host_after("write_sectors flush write_sectors flush")
    for at in range(GROUP_BYTES - 8):
        look(host, flipped(host.disk, LOG, HEAD_BYTES + at, at % 2))


def damaged_entry_header() -> None:
    """A bit of each byte of an entry's header flips; a later group is there."""
    host = host_after("write_sectors flush write_sectors flush")
    for at in range(ENTRY_BYTES):
        look(host, flipped(host.disk, LOG, HEAD_BYTES + GROUP_BYTES + at, at % 3))


def damaged_first_group() -> None:
    """The first of several groups that no superblock knows of can't be read."""
    host = host_after("write_sectors flush write_sectors flush")
    look(host, flipped(host.disk, LOG, HEAD_BYTES))


def damaged_recorded_group() -> None:
    """The last group, which the superblocks know of, can't be read."""
    host = host_after("write_sectors snapshot")
    look(host, flipped(host.disk, LOG, HEAD_BYTES))


def damaged_group_in_write_back() -> None:
    """A crash in a write-back; then the last group can't be read."""
    host = host_after("write_sectors flush")
    moments = []
    host.disk.before = lambda op: moments.append((op, host.disk.moment()))
    host.store.close()
    disk = next(cut(m) for op, m in moments if op.kind == "sync" and op.name.endswith(".img"))
    look(host, flipped(disk, LOG, HEAD_BYTES))


def foreign_ring() -> None:
    """The log's groups are those of another store of the same shape and age."""
    host, other = (host_after("write_sectors flush") for _ in range(2))
    disk = cut(host.disk.moment())
    ring = cut(other.disk.moment()).read(LOG)[HEAD_BYTES:]
    disk.replace(LOG, disk.read(LOG)[:HEAD_BYTES] + ring)
    with suppress(JrnlError):
        store = host.open_on(disk)
        if store.seq and not store.problems:
            raise Failure("a group of another store was taken")


def foreign_log() -> None:
    """The whole log is that of another store."""
    host, other = (host_after("write_sectors flush") for _ in range(2))
    disk = cut(host.disk.moment())
    disk.replace(LOG, cut(other.disk.moment()).read(LOG))
    with suppress(FormatError):
        host.open_on(disk)
        raise Failure("the log of another store was taken")


def repeated_write() -> None:
    """Two torn groups at one place, of two lives, that make up a whole one of the first."""
    host = host_after("reopen")
    first = HEAD_BYTES // SECTOR  # then header, before, after, before, after
    disk = cut(host.disk.moment())
    for data, kept in ((b"A", {first, first + 2}), (b"C", {first + 4})):
        store = host.open_on(disk)
        moments: list[Moment] = []
        disk.before = lambda op, disk=disk, moments=moments: (
            moments.append(disk.moment()) if (op.kind, op.name) == ("sync", "log") else None
        )
        store["v0"].write(0, data * SECTOR)
        store["v0"].write(1024, b"B" * SECTOR)  # the host writes this again after the crash
        store.flush()
        choice = tuple(NEW if change.key in kept else OLD for change in moments[0].changes)
        disk = moments[0].crashed(choice)
    if host.open_on(disk).seq:
        raise Failure("a write that a crash had undone comes back, in the place of another")


# Killed processes, and caches that hold what the disk does not.


def killed_at(host: Host, name: str, kind: str, file: str) -> SimDisk:
    """Return what the next process finds when this one is killed at such an operation."""
    survivors = []
    disk = host.disk

    def hook(op: Op) -> None:
        if op.kind == kind and op.name.startswith(file) and not survivors:
            survivors.append(disk.survivor())

    disk.before = hook
    host.do(name)
    disk.before = None
    return survivors[0]


def seen_then_gone(host: Host, disk: SimDisk) -> None:
    """Open what a process has left; what is served then outlives a power cut. Raises Failure."""
    seen = host.open_on(disk).seq
    store = host.open_on(cut(disk.moment(), OLD))
    if store.seq < seen or store.problems:
        raise Failure(f"state {seen} was served after reopening, then was gone: {store.problems}")


def killed_before_log_sync() -> None:
    host = host_after("write_sectors")
    seen_then_gone(host, killed_at(host, "flush", "sync", "log"))


def pages_that_never_reach_the_disk() -> None:
    """A sync of the log fails, and the pages stay in the cache as if they were clean."""
    host = host_after("write_sectors")
    disk = host.disk
    disk.before = lambda op: "keep" if (op.kind, op.name) == ("sync", "log") else None
    with suppress(OSError, StorePoisoned):
        host.store.flush()
    disk.before = None
    seen_then_gone(host, disk.survivor())


def killed_in_superblock() -> None:
    """A process is killed between a copy's write and its sync; the power fails in the opening."""
    host = host_after("write_sectors flush")
    disk = killed_at(host, "snapshot", "sync", "super")
    moments: list[Moment] = []
    disk.before = lambda op: moments.append(disk.moment())
    host.open_on(disk)
    for moment in moments:
        if moment.touches("super"):
            for _, choice in moment.choices().picked(12, random.Random(moment.op)):
                try:
                    host.open_on(moment.crashed(choice))
                except JrnlError as error:
                    raise Failure(f"no superblock is left: {error}") from error


def poisoned() -> None:
    """After a failed sync of the log, nothing is taken any more."""
    host = host_after("write_sectors")
    failing = [True]
    host.disk.before = lambda op: (
        "keep" if (op.kind, op.name) == ("sync", "log") and failing.pop() else None
    )
    with suppress(OSError):
        host.store.flush()
    host.disk.before = None
    with suppress(StorePoisoned):
        host.store.flush()
        raise Failure("after a failed sync it is tried again, and said to have succeeded")


# Bounds.


def long_writes() -> None:
    """Writes that fill the memory for what the volumes have not got, without a flush."""
    host = host_after("", Shape(sizes=(65536,), journal=1 << 18))
    for k in range(5):
        host.write(0, k * 11264, 11264)
        Check(host.store, host.model, host.world, host.rng).all()


def evicted_after_reopening() -> None:
    """A tail that only the log has is pushed out of it, and the power fails again."""
    host = host_after("fill")
    for _ in range(2):
        host.take_up(cut(host.disk.moment()), host.expectation)
        host.do("fill")
        Check(host.store, host.model, host.world, host.rng).all()


# Superblocks.


def damaged_superblock() -> None:
    """A bit of one copy flips: the other one says the same."""
    host = host_after("write_sectors snapshot")
    for path in SUPERS:
        for at in range(0, len(host.disk.read(path).rstrip(b"\0")), 5):
            store = host.open_on(flipped(host.disk, path, at, at % 8))
            Check(store, host.model, host.world, host.rng).all()


# Files of copies.


def exchanged_snapshots() -> None:
    """Two snapshots' files have changed their names."""
    host = host_after("write_sectors snapshot write_sectors write_sectors snapshot copy")
    disk = cut(host.disk.moment())
    for volume in range(2):
        for end in ("img", "sums"):
            one, two = (f"{STORE}/snapshot-{k}-{volume}.{end}" for k in (1, 2))
            content = disk.read(one), disk.read(two)
            disk.replace(one, content[1])
            disk.replace(two, content[0])
    store = host.open_on(disk)
    for name, snapshot in store.snapshots.items():
        with suppress(JrnlError):
            found = tuple(snapshot.read(0, v.size, k) for k, v in store.volumes.items())
            if found != host.model.states[host.model.snapshots[name]]:
                raise Failure(f"snapshot {name} is another one now")


def damaged_patches() -> None:
    """A bit of each byte of a recovery's patches flips, while the store is closed."""
    host = host_after("write_sectors flush write_sectors write_inside")
    host.restore(1)
    host.close()
    disk = cut(host.disk.moment())
    name = next(n for n in disk.names(disk.find(STORE)) if n.endswith(".patches"))
    ((number, (_, state)),) = host.world.recoveries.items()
    for at in range(len(disk.read(f"{STORE}/{name}")) - 1, 0, -7):
        store = host.open_on(flipped(disk, f"{STORE}/{name}", at, 1))
        if number not in store.recoveries:
            if not store.problems:
                raise Failure("a recovery is gone, and no problem is told")
            continue
        with suppress(JrnlError), store.recoveries[number].again() as again:
            found = tuple(again.read(0, v.size, k) for k, v in store.volumes.items())
            if found != state:
                raise Failure("a recovery of another state came back")


# Refusals.


def newer_format() -> None:
    """A newer version has made the store."""
    host = host_after("write_sectors")
    host.close()
    disk = cut(host.disk.moment())
    place = disk.place().folder(STORE)
    for copy, path in enumerate(SUPERS):
        found = superblock.unpack(copy, place.file(superblock.NAMES[copy]))
        disk.replace(path, newer(copy, found))
    with suppress(FormatError):
        host.open_on(disk)
        raise Failure("a store of a newer format was opened")


def newer(copy: int, found: superblock.Found) -> bytes:
    """Return a superblock copy as format 2 might have it, with a right checksum."""
    kept = superblock.FORMAT
    superblock.FORMAT = 2
    try:
        data = superblock.pack(copy, found.key, found.generation, found.document)
    finally:
        superblock.FORMAT = kept
    return data.ljust(superblock.SUPER_BYTES, b"\0")


def two_writers() -> None:
    """A store is opened again while it is open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        with jrnl.create(path, size=4096, journal="16KiB"), suppress(StoreLocked):
            jrnl.open(path).close()
            raise Failure("two have opened the store for writing")


def forked_child() -> None:
    """A child of the process that opened the store writes, which makes it durable at once."""
    host = host_after("write_sectors", Shape(sync="always"))
    child = os.fork()
    if child == 0:
        status = 2
        try:
            host.store["v0"].write(0, b"child")
        except StoreLocked:
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise Failure("a forked child has written to the store")
