"""jrnl gives block volumes a memory: every earlier state rebuilt, restored, rewound to."""

from __future__ import annotations

from enum import IntEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from jrnl import logwrites
from jrnl._core import Edit
from jrnl.errors import (
    CorruptionError,
    EditOpen,
    EntryTooLarge,
    FormatError,
    InvalidArgument,
    InvalidType,
    JournalFull,
    JrnlError,
    NameTaken,
    OutOfBounds,
    PinnedPoint,
    PointExpired,
    ReadOnlyStore,
    StoreClosed,
    StoreExists,
    StoreLocked,
    StorePoisoned,
    UnknownPoint,
    UnknownVolume,
)
from jrnl.files import VolumeFile
from jrnl.history import Stats
from jrnl.journal import Journal
from jrnl.limits import WindowTime
from jrnl.making import create, wrap
from jrnl.making import open_store as open
from jrnl.pins import Pin
from jrnl.plan import Plan
from jrnl.points import Mark, Point, Window
from jrnl.recovery import Recovery, Restore
from jrnl.snapshot import Report, Snapshot
from jrnl.store import Rewind, Savepoint, Store
from jrnl.view import View
from jrnl.volume import Volume

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


__all__ = [
    "CorruptionError",
    "Edit",
    "EditOpen",
    "EntryTooLarge",
    "FormatError",
    "InvalidArgument",
    "InvalidType",
    "Journal",
    "JournalFull",
    "JrnlError",
    "Kind",
    "Mark",
    "NameTaken",
    "OutOfBounds",
    "Pin",
    "PinnedPoint",
    "Plan",
    "Point",
    "PointExpired",
    "ReadOnlyStore",
    "Recovery",
    "Report",
    "Restore",
    "Rewind",
    "Savepoint",
    "Snapshot",
    "Stats",
    "Store",
    "StoreClosed",
    "StoreExists",
    "StoreLocked",
    "StorePoisoned",
    "UnknownPoint",
    "UnknownVolume",
    "View",
    "Volume",
    "VolumeFile",
    "Window",
    "WindowTime",
    "__version__",
    "create",
    "get_include",
    "logwrites",
    "open",
    "wrap",
]
