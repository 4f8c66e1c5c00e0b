"""Cases that random lives reach too seldom, or never, built by hand.

Each raises Failure where the store breaks a promise; with every rule in place none does.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

from xxhash import xxh3_64_intdigest as xxh3

import jrnl
from jrnl import (
    CatalogFull,
    FormatError,
    JrnlError,
    Kind,
    ReadOnlyStore,
    StoreExists,
    StoreLocked,
    StorePoisoned,
)
from jrnl._core import FORMAT
from jrnl.disk import open as opening
from jrnl.disk import superblock
from jrnl.disk.create import create_in
from tests.crash.disk import CHANGING, GARBAGE, NEW, OLD, SECTOR, Moment, Op, SimDisk
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


def damaged_preserved() -> None:
    """A bit flips in what a recovery preserves."""
    host = host_after("write_sectors write_sectors flush restore_kept fill fill reopen")
    host.close()
    (name,) = (name for name in host.disk.place().folder(STORE).names() if name.endswith(".kept"))
    path, kept = f"{STORE}/{name}", dict(host.world.recoveries)
    for at in range(4096, len(host.disk.read(path)), 4096):
        store = host.open_on(flipped(host.disk, path, at + 1000))
        for number, (_, state) in kept.items():
            with suppress(JrnlError, KeyError), store.recoveries[number].again() as again:
                found = tuple(again.read(0, v.size, k) for k, v in store.volumes.items())
                if found != state:
                    raise Failure("a recovery of another state came back")


# Snapshots: intents, copies under way, rewinds and holes.


def small(**options: object) -> tuple[SimDisk, jrnl.Store]:
    """Return a store of one volume, "data", whose log is full soon."""
    disk = SimDisk()
    store = create_in(
        disk.place(), STORE, **{"size": 65536, "journal": 16384, "overlay": 65536, **options}
    )
    return disk, store


def kills(disk: SimDisk, act: Callable[[], object]) -> Iterator[SimDisk]:
    """Yield what is left where the process is killed, or the power cut, at each operation."""
    left: list[SimDisk] = []

    def hook(op: Op) -> None:
        if op.kind in CHANGING:
            left.extend([disk.survivor(), cut(disk.moment(), OLD)])

    disk.before = hook
    act()
    disk.before = None
    yield from left


def held(disk: SimDisk, name: str, states: dict[int, bytes]) -> None:
    """A snapshot is there, and right, for reading and for writing. Raises Failure."""
    for mode in ("r", "r+"):
        try:
            store = opening.open_in(disk.place(), STORE, mode=mode, overlay=65536)
        except ReadOnlyStore:  # an interrupted restore can only be finished
            continue
        snapshot = store.snapshots[name]
        try:
            found = snapshot.read(0, store.volume.size)
            right = found == states.get(snapshot.seq, found) and store.verify().ok
        except JrnlError as error:
            raise Failure(f"the snapshot {name!r} is lost: {error}; {store.problems}") from error
        if not right or store.problems:
            raise Failure(f"the snapshot {name!r} is not its state: {store.problems}")
        if mode == "r+":
            snapshot.wait()
            if snapshot.read(0, store.volume.size) != found:
                raise Failure(f"the copy of {name!r} is not its state")
        store.close()


def restore_that_folds() -> None:
    """A restore pushes out entries that nobody has flushed, and the snapshot is brought on."""
    disk, store = small(overflow="fold")
    states = {0: store.volume.read(0, 65536)}

    def write(k: int) -> None:
        seq = store.volume.write(k * 4096, bytes([k + 1]) * 1024)
        states[seq] = store.volume.read(0, 65536)

    store.snapshot("mine").wait()
    for k in range(3):
        write(k)
        seq = store.flush()
        states[seq] = store.volume.read(0, 65536)
    recovery = store.recover("mine")
    for k in range(3, 6):
        write(k)
    for left in kills(disk, recovery.restore):
        held(left, "mine", states)


def rewind_in_a_full_log() -> None:
    """A rewind has no room for its entry while a snapshot's copy is under way."""
    disk, store = small()
    states = {}
    for k in range(5):
        store.volume.write(k * 4096, bytes([k + 1]) * 1024)
        store.flush()
    seq = store.snapshot("mine").seq
    states[seq] = store.volume.read(0, 65536)
    log = store._session.log
    while log.position[1] - log.tail < log.area or store.window.oldest < seq:
        store.volume.write(0, os.urandom(1024))
        store.flush()
    if store.window.oldest != seq or store.snapshots["mine"].complete:
        raise Failure("the log is not full of what the copy needs")
    to = int(store.journal.entries["seq"][-2])
    for left in kills(disk, lambda: store.rewind(to)):
        held(left, "mine", states)


def holes_in_production() -> None:
    """What a snapshot had is discarded, written back, and holes are dug, before it is copied."""
    disk, store = small(size=1 << 22, journal=1 << 23, overlay=1 << 16)
    for k in range(0, 1 << 22, 1 << 16):
        store.volume.write(k, random.Random(k).randbytes(1 << 12))
    store.close()
    store = opening.open_in(disk.place(), STORE, overlay=65536)
    states = {store.seq: store.volume.read(0, 1 << 22)}
    store.snapshot("mine")
    store.volume.discard(0, 1 << 22)
    store._session.log.write_back()
    store._session.log.record()  # an opening has nothing to redo
    held(disk.survivor(), "mine", states)
    store.recover("mine").restore()
    store.volume.discard(0, 1 << 22)
    store.snapshots["mine"].wait()
    if store.snapshots["mine"].read(0, 1 << 22) not in states.values():
        raise Failure("a copy made in the same life is not its state")


def copies_that_end_in_any_order() -> None:
    """A copy's end meets the naming of its snapshot, and the log goes round after that."""
    from tests.crash import interleave

    text = "write_sectors write_across snapshot"
    orders = [
        interleave.Order(text, at, steps, True)
        for at in interleave.free_operations(interleave.Order(text, -1))
        for steps in range(1, interleave.STEPS)
    ]
    result = interleave.run_all(orders, looks=False)
    if result.failures:
        raise Failure(result.failures[0])


def copy_that_nobody_recorded() -> None:
    """A crash between the end of a copy and its record; and what it was made from is damaged."""
    disk, store = small()
    for k in range(5):
        store.volume.write(k * 4096, bytes([k + 1]) * 1024)
    seq = store.snapshot("mine").seq
    state = store.volume.read(0, 65536)
    left: list[SimDisk] = []

    def hook(op: Op) -> None:
        if op.kind == "pwrite" and op.name.startswith("super") and not left:
            left.append(disk.survivor())

    disk.before = hook
    store.snapshots["mine"].wait()
    disk.before = None
    damaged = cut(left[0].moment())
    data = damaged.read(LOG)
    damaged.replace(LOG, data[:HEAD_BYTES] + bytes(len(data) - HEAD_BYTES))
    again = opening.open_in(damaged.place(), STORE, overlay=65536)
    try:
        found = again.snapshots["mine"].read(0, 65536)
    except JrnlError as error:
        raise Failure(f"a whole copy was given up: {error}; {again.problems}") from error
    if found != state or again.snapshots["mine"].seq != seq:
        raise Failure("the snapshot is not its state")


# Creation, and calls of several entries.


def two_creations() -> None:
    """Somebody creates the same store at any moment of a creation, and writes to it."""

    def create(disk: SimDisk) -> jrnl.Store | None:
        with suppress(StoreExists, StoreLocked):
            return create_in(disk.place(), STORE, size=4096, journal=16384)
        return None

    def at(number: int) -> int:
        disk, other, seen = SimDisk(), [], [0]

        def hook(op: Op) -> None:
            seen[0] += op.kind in CHANGING
            if seen[0] == number and not other:
                other.append(None)
                other[0] = create(disk)
                if other[0] is not None:
                    other[0].volume.write(0, b"flushed")
                    other[0].flush()

        disk.before = hook
        first = create(disk)
        disk.before = None
        winners = [store for store in (first, *other) if store is not None]
        if len(winners) != 1:
            raise Failure(f"at operation {number} {len(winners)} have made the store")
        winners[0].volume.write(100, b"still")
        winners[0].close()
        with opening.open_in(disk.survivor().place(), STORE) as store:
            if store.volume.read(100, 5) != b"still" or (
                first is None and store.volume.read(0, 7) != b"flushed"
            ):
                raise Failure("what was flushed is gone")
        if disk.place().names() != [STORE]:
            raise Failure(f"beside the store there is {disk.place().names()}")
        return seen[0]

    number = 1
    while at(number) >= number:
        number += 1


def batches_that_fail() -> None:
    """Each operation of the disk fails in turn, in each call of several entries, small or long."""
    calls: dict[str, Callable[[jrnl.Volume], object]] = {
        "write_many": lambda v: v.write_many([k * 8192 + 100 for k in range(6)], b"B" * 6 * 700),
        "long write_many": lambda v: v.write_many([k * 4096 for k in range(15)], b"B" * 15 * 4096),
        "discard": lambda v: v.discard(100, 50_000),
        "write_zeroes": lambda v: v.write_zeroes(0, v.size),
    }
    for options in ({}, {"overflow": "fold"}, {"images": "after"}, {"sync": "always"}):
        disk, store = small(size=1 << 17, journal=1 << 17, **options)
        for k in range(0, 1 << 17, 8192):
            store.volume.write(k, os.urandom(4096))
        store.snapshot("mine").wait()
        store.close()
        moment = disk.moment()
        for name, call in calls.items():
            number = 0
            while _batch_fails(moment, name, call, number):
                number += 1
            if number < 3:
                raise Failure(f"{name} has {number} operations")


def _batch_fails(moment: Moment, name: str, call: Callable[..., object], number: int) -> bool:
    """Let one operation of a call fail; return whether it has so many."""
    disk = cut(moment)
    store = opening.open_in(disk.place(), STORE, overlay=65536)
    before, count = (store.seq, store.volume.read(0, store.volume.size)), [0]

    def fails(op: Op) -> None:
        count[0] += 1
        if count[0] == number + 1:
            raise OSError(errno.EIO, "the simulated disk says EIO")

    disk.before = fails
    try:
        call(store.volume)
    except (OSError, JrnlError):
        disk.before = None
        poisoned = any("what was not durable" in problem for problem in store.problems)
        now = store.seq, store.volume.read(0, store.volume.size)
        if now != before and not poisoned:
            raise Failure(
                f"{name} with a failure at {number} has left half: seq {before[0]} is {now[0]} now"
            ) from None
        if not poisoned:
            call(store.volume)
            if not store.verify().ok:
                raise Failure(f"after {name} that failed at {number}: {store.verify()}") from None
            store.close()
            state = opening.open_in(disk.place(), STORE, overlay=65536)
            with state:
                if state.digest() == "" or not state.verify().ok:
                    raise Failure(f"{name} at {number}: reopened it is wrong") from None
    disk.before = None
    return count[0] > number


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


# Rewinds without an intent.


def broken_off(disk: SimDisk, store: jrnl.Store, to: int, states: dict[int, bytes]) -> None:
    """Cut the power at each operation of a rewind: production is a state. Raises Failure."""
    moments: list[Moment] = []
    disk.before = lambda op: moments.append(disk.moment()) if op.kind in CHANGING else None
    rewound = store.rewind(to).seq
    disk.before = None
    states[rewound] = states[to]
    for moment, what, mode in product(moments, (OLD, NEW, GARBAGE), ("r", "r+")):
        after = opening.open_in(cut(moment, what).place(), STORE, mode=mode, overlay=65536)
        try:
            right = after.volume.read(0, after.volume.size) == states.get(after.seq)
        except JrnlError as error:
            raise Failure(f"production is refused: {error}") from error
        if not right:
            raise Failure(f"a rewind was broken off: production is not state {after.seq}")


def rewind_of_what_no_superblock_names() -> None:
    """The volume's file has entries that are to go, and only groups could tell that it has."""
    disk, store = small(journal=1 << 20)
    states, synced = {}, []
    disk.before = lambda op: synced.append(op.path) if op.kind == "sync" else None

    def write(k: int) -> int:
        store.volume.write(k % 16 * 4096, bytes([k + 1]) * 4096)
        states[store.seq] = store.volume.read(0, store.volume.size)
        store.flush()
        states[store.seq] = states[store.seq - 1]
        return store.seq

    to, k = write(0), 1
    while f"{STORE}/data.img" not in synced:
        write(k)
        k += 1
    write(k)
    write(k + 1)
    if SUPERS[0] in synced:
        raise Failure("a superblock was written: this is no case of it")
    broken_off(disk, store, to, states)


def rewind_of_what_no_file_has() -> None:
    """A write that is in the open group alone goes; what it overwrote is in the volume's file."""
    disk, store = small()
    store.volume.write(0, b"a" * 2048)
    store.close()
    store = opening.open_in(disk.place(), STORE, overlay=65536)
    states = {store.seq: store.volume.read(0, store.volume.size)}
    store.volume.write(0, b"b" * 2048)
    broken_off(disk, store, store.seq - 1, states)


# What a rewind has dropped, and sectors that are older versions of themselves.


def drops_stay_dropped(host: Host, disk: SimDisk) -> None:
    """After damage: right states or exceptions, and nothing that a rewind dropped. Raises."""
    look(host, cut(disk.moment()))
    model = host.model
    try:
        store = host.open_on(disk)
    except JrnlError:
        return
    for seq, base in product(range(1, model.seq + 1), (None, *store.snapshots)):
        with suppress(JrnlError), store.recover(seq, base) as image:
            found = tuple(image.read(0, size, f"v{k}") for k, size in enumerate(host.shape.sizes))
            if seq in model.dropped:
                raise Failure(f"state {seq} was dropped by a rewind, and is back")
            if found != model.states[seq]:
                raise Failure(f"state {seq} comes back wrong")


def rewound_host() -> Host:
    """A host that has rewound into a group of several entries, and was killed since."""
    host = host_after("write_inside snapshot copy " + "write_inside " * 5 + "flush")
    host.rewind(3)
    for name in (*("write_inside",) * 5, "flush", "write_inside", "flush"):
        host.do(name)
    return host


def groups_of(host: Host) -> Iterator[tuple[int, bytes]]:
    """Where each group of a log without a lap begins in the file, and its bytes."""
    log, at = cut(host.disk.moment()).read(LOG), HEAD_BYTES
    while length := int.from_bytes(log[at + 32 : at + 40], "little"):
        yield at, log[at : at + length]
        at += length


def damaged_header_before_rewind() -> None:
    """A bit of each byte of every entry header flips in the group that a rewind has cut."""
    host = rewound_host()
    _, (start, group), *_ = groups_of(host)
    for k in range(int.from_bytes(group[104:112], "little")):
        for at in range(0, ENTRY_BYTES, 3):
            place = start + GROUP_BYTES + k * ENTRY_BYTES + at
            drops_stay_dropped(host, flipped(host.disk, LOG, place, at % 8))


def damaged_rewind() -> None:
    """The group that begins with a REWIND can't be read; those around it can."""
    host = rewound_host()
    start = next(at for at, group in groups_of(host) if group[GROUP_BYTES + 38] == Kind.REWIND)
    for at in range(0, GROUP_BYTES - 8, 5):
        drops_stay_dropped(host, flipped(host.disk, LOG, start + at, at % 8))


def stale_index() -> None:
    """A sector of the index is an older version of itself, of before a rewind; it is sealed."""
    host = host_after("write_inside flush " * 6)
    host.close()
    older = cut(host.disk.moment()).read(f"{STORE}/index")
    host.open()
    host.rewind(4)
    for name in ("flush", *("write_inside", "flush") * 5):
        host.do(name)
    host.close()
    disk = cut(host.disk.moment())
    newer = disk.read(f"{STORE}/index")
    for at in range(HEAD_BYTES, HEAD_BYTES + 4 * SECTOR, SECTOR):
        if older[at : at + SECTOR] != newer[at : at + SECTOR]:
            other = cut(disk.moment())
            stale = newer[:at] + older[at : at + SECTOR] + newer[at + SECTOR :]
            other.replace(f"{STORE}/index", stale)
            drops_stay_dropped(host, other)


def forged_index() -> None:
    """A header of the index says what none says, and every checksum is right."""
    host = host_after("write_inside " * 6)
    host.close()
    disk = cut(host.disk.moment())
    index = bytearray(disk.read(f"{STORE}/index"))
    devices = [disk.place().folder(STORE).open(name, True) for name in superblock.NAMES]
    found = superblock.unpack(0, devices[0])
    at = HEAD_BYTES + 3 * ENTRY_BYTES
    index[at + 38] = 9  # a kind that there is not
    header = bytes(index[at : at + ENTRY_BYTES - 8])
    before, after = index[at + ENTRY_BYTES - 8 : at + ENTRY_BYTES], xxh3(header, found.key + 3)
    index[at + ENTRY_BYTES - 8 : at + ENTRY_BYTES] = after.to_bytes(8, "little")
    disk.replace(f"{STORE}/index", bytes(index))
    document, change = found.document, after - int.from_bytes(before, "little")
    document["index_sum"] = (document["index_sum"] + change) % (1 << 64)
    superblock.Superblock(devices, found.key, found.generation).write(document)
    drops_stay_dropped(host, disk)


def full_superblock() -> None:
    """Names have taken all the room that they may have, and one more mark is to be pinned."""
    host = host_after("write_inside")
    host.store._session.superblock.turn.used = superblock.ROOM_BYTES
    with suppress(CatalogFull):
        host.store.mark("one-more", pinned=True)
        raise Failure("pinned marks took more than a superblock's room for names")
