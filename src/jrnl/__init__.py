"""jrnl gives block volumes a memory: every earlier state rebuilt, restored, rewound to.

    store = jrnl.create(size="1GiB", journal="256MiB")    # in memory; on disk: create("path", ...)
    vol = store["data"]
    vol.write(4096, b"hello")                             # each write is an entry of the journal
    good = store.mark("good")                             # a name for the state after it
    vol.write(4096, b"HELLO")
    with store.recover(good) as recovery:                 # that state, beside production ...
        recovery.read(4096, 5)
        recovery.restore()                                # ... and onto it, which can be undone
    store.rewind(good)                                    # production itself back, for good

A state is named by a point: an entry's seq (int), the name of a mark or a snapshot, a Mark, a
Snapshot, or an aware datetime. Sizes are ints, bytes, or strs like "64KiB", "64MiB", "1GiB".

Here is all that there is; ``help(jrnl.Store.recover)``, say, tells what an argument means and what
is raised. What follows under CLASSES is the same in full.

The module
    create, open, wrap      make a store; open one on disk; journal memory that is there already
    archive                 what other machines do with a `Store.archive`: read, restore, follow it
    crash                   what a disk may hold if power fails; checks held against it
    logwrites               logs of dm-log-writes: replayed, attached as history, made of a journal
    tables                  the entries of a history as rows for JSON, or as a Parquet file
    files                   the files in a volume of ext2 to ext4, XFS or btrfs, at any state
    plot                    pictures of a history: a figure, a page
    archive                 an archive on an object store: read, restored, followed, verified
    nbd                     a store's volumes, and its earlier states, served by NBD
    get_include             the folder of jrnl.h, for C and Cython
    kernel                  which kernel writes: avx512, avx2, portable or none

Store                       one or more volumes under one journal and one sequence
    volumes, volume         by name, or the only one; ``store["name"]``, too
    read, readinto, as_file, path    of one of them; it is a State, too
    seq, window, window_time    the newest state; those that can be rebuilt, and from when they are
    flush                   make all that was written durable
    mark, marks             name the present state
    snapshot, snapshots     take a copy of it, with checksums of its own
    pin, pins, unpin        keep a state, whatever is written
    retain                  for how long states are kept
    plan, recover           an earlier state, beside production
    recoveries, delete_recovery    those that can be taken up again
    view, views             an earlier state, without a copy; or a scratch disk over it
    states, bisect          the states that are there; the first one at which a check fails
    fork, parent            a store of its own that begins with a state; what this one began with
    archive, archiving, archive_flush    on an object store, for any machine to recover from
    rewind, savepoint       production itself back in place; a block that an exception rewinds
    diff, history, stats, heat    where two states differ; who wrote where, when; what it took
    digest, verify          one sum over a state; everything against its checksums
    journal, options, metrics    what it remembers, how it was made, what it counts
    problems                what was found damaged, or has failed
    close                   or use ``with``

State                       what a store, a view, a recovery and a snapshot are: tools take any
    volumes, volume         by name, or the only one; ``state["name"]``, too
    seq, read, readinto, as_file, path    the last is for other programs
    diff, digest            where another state differs; one sum over it

StateVolume                 one volume of a state: what a Volume has, but edit and as_array
    name, size
    read, readinto, as_file, path
    data_extents            where it may hold anything but zeroes
    write, write_many, write_zeroes, discard    of a state that can be written

Volume                      a StateVolume of production
    name, size
    read, readinto, write, write_many, write_zeroes, discard
    edit                    lend a range for writing in place, as one entry
    as_array, as_file       production as a NumPy array (in memory); as a raw file object
    path, data_extents      where another program can read it; where it may hold anything

Snapshot                    a State
    name, seq, time_ns, volumes, volume, pinned
    read, readinto, as_file, path, diff, digest
    verify, delete
    complete, wait, problem    whether the copying in the background is done

Recovery                    a State
    id, seq, base, plan, volumes, volume, undoable
    read, readinto, as_array, as_file, diff, digest
    path                    where another program can open it
    restore                 onto production, as journaled writes
    again                   once more, from the preserved copy
    seek                    to another state, where it was made with undoable=True
    close

View                        a State
    id, seq, volumes, volume, writable, opened
    read, readinto, as_file, path, digest
    write, write_zeroes, discard, own_bytes    where it was made with writable=True
    diff                    what was written to it has changed; or where another state differs
    promote                 that onto production, as journaled writes
    view                    another one, of what it shows now
    close

Mark
    name, seq, time_ns, volumes

Pin
    name, seq, needs, held
    release, close

Journal
    capacity, used          bytes
    entries                 a structured array, oldest first; `Kind` has the numbers of its kinds
    between, used_up_to     those of a range of seqs alone; what they take
    before, after           what an entry overwrote, and what it wrote

VolumeFile                  what as_file() returns: a raw file object of fixed size
    part                    another one over a part, such as a partition, or an archive

Results                     Plan, Restore, Rewind, Window, WindowTime, Report, Stats, Options,
                            Parent, by their fields; Edit, Savepoint for ``with``; Point is any

Errors, all JrnlErrors
    InvalidArgument, InvalidType, OutOfBounds, EntryTooLarge    an argument that cannot be
    NameTaken, UnknownPoint, UnknownVolume    a name
    PointExpired            a state that is no longer kept
    CatalogFull, JournalFull, PinnedPoint    what is kept stands in the way
    ProductionChanged       what was written since a view's state does, for promoting it
    EditOpen, StoreBusy     first end the ``edit`` block; a call from inside another one
    CorruptionError         stored bytes are not what was stored
    FormatError, StoreExists, StoreLocked    opening and creating
    PathExists, UnknownPath    of a file that was to be written; of one inside a volume
    MissingPackage          an optional part needs one; it says what to install
    StoreClosed, ReadOnlyStore, StorePoisoned    nothing can be written, or nothing at all
    ArchiveError, ArchiveFull, ArchiveLagging, ArchiveRefused    an archive's object store
    ArchiveUnfit, ArchiveUnreachable, Fenced    ... and other writers of the archive
    JrnlError               the base of them all

What the system refuses (memory, a full disk) is raised as Python does: MemoryError, OSError.
"""

from __future__ import annotations

from enum import IntEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jrnl import archive, crash, files, logwrites, nbd, plot, tables
from jrnl._core import Edit
from jrnl._core import kernel_in_use as kernel
from jrnl.api import create, wrap
from jrnl.api import open_store as open
from jrnl.errors import (
    ArchiveError,
    ArchiveFull,
    ArchiveLagging,
    ArchiveRefused,
    ArchiveUnfit,
    ArchiveUnreachable,
    CatalogFull,
    CorruptionError,
    EditOpen,
    EntryTooLarge,
    Fenced,
    FormatError,
    InvalidArgument,
    InvalidType,
    JournalFull,
    JrnlError,
    MissingPackage,
    NameTaken,
    OutOfBounds,
    PathExists,
    PinnedPoint,
    PointExpired,
    ProductionChanged,
    ReadOnlyStore,
    StoreBusy,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StorePoisoned,
    UnknownPath,
    UnknownPoint,
    UnknownVolume,
)
from jrnl.history import Stats
from jrnl.journal import Journal
from jrnl.lineage import Parent
from jrnl.options import Options
from jrnl.pins import Pin
from jrnl.plan import Plan
from jrnl.points import Mark, Point, Window
from jrnl.recovery import Recovery, Restore
from jrnl.savepoint import Rewind, Savepoint
from jrnl.snapshot import Report, Snapshot
from jrnl.state import State, StateVolume
from jrnl.store import Store
from jrnl.view import View
from jrnl.volume import Volume
from jrnl.volume_file import VolumeFile
from jrnl.window import WindowTime

try:
    __version__ = version("jrnl-engine")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"


class Kind(IntEnum):
    """What an entry is; the numbers of ``store.journal.entries["kind"]``."""

    WRITE = 1
    DISCARD = 2
    ZEROES = 3
    MARK = 4
    FLUSH = 5
    REWIND = 6


def get_include() -> str:
    """Return the folder of ``jrnl.h``, for C callers' include path."""
    return str(Path(__file__).parent / "include")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


__all__ = [
    "ArchiveError",
    "ArchiveFull",
    "ArchiveLagging",
    "ArchiveRefused",
    "ArchiveUnfit",
    "ArchiveUnreachable",
    "CatalogFull",
    "CorruptionError",
    "Edit",
    "EditOpen",
    "EntryTooLarge",
    "Fenced",
    "FormatError",
    "InvalidArgument",
    "InvalidType",
    "Journal",
    "JournalFull",
    "JrnlError",
    "Kind",
    "Mark",
    "MissingPackage",
    "NameTaken",
    "Options",
    "OutOfBounds",
    "Parent",
    "PathExists",
    "Pin",
    "PinnedPoint",
    "Plan",
    "Point",
    "PointExpired",
    "ProductionChanged",
    "ReadOnlyStore",
    "Recovery",
    "Report",
    "Restore",
    "Rewind",
    "Savepoint",
    "Snapshot",
    "State",
    "StateVolume",
    "Stats",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreExists",
    "StoreLocked",
    "StorePoisoned",
    "UnknownPath",
    "UnknownPoint",
    "UnknownVolume",
    "View",
    "Volume",
    "VolumeFile",
    "Window",
    "WindowTime",
    "__version__",
    "archive",
    "crash",
    "create",
    "files",
    "get_include",
    "kernel",
    "logwrites",
    "nbd",
    "open",
    "plot",
    "tables",
    "wrap",
]
