"""Operations that look at a store, and change nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from jrnl import tables
from jrnl.control.archiving import archive_told
from jrnl.control.points import point_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from jrnl.control.report import Report, Row
    from jrnl.logwrites import LogHistory
    from jrnl.points import Mark
    from jrnl.snapshot import Snapshot
    from jrnl.store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS = 1000  # told at a time
KINDS = ("", "write", "discard", "zeroes")  # those that a range has


def time_text(time_ns: int) -> str:
    """Return a time as ISO 8601 text, in UTC, that is a point, too."""
    return (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat()


def parent_of(store: Store) -> Row | None:
    """Say what a store is a fork of."""
    parent = store.parent
    if parent is None:
        return None
    return {"key": f"{parent.key:016x}", "seq": parent.seq, "digest": parent.recorded}


def info(store: Store, report: Report) -> Row:
    """Say what a store is, what it remembers, and what state it is in."""
    oldest, newest = store.window
    began, ended = store.window_time
    options, journal = store.options, store.journal
    return {
        "path": options.path,
        "seq": store.seq,
        "window": {
            "oldest": oldest,
            "newest": newest,
            "oldest_time": began.isoformat(),
            "newest_time": ended.isoformat(),
        },
        "parent": parent_of(store),
        "volumes": dict(options.volumes),
        "journal": {
            "capacity": journal.capacity,
            "used": journal.used,
            "entries": store.stats().entries,
        },
        "snapshots": _snapshots(store.snapshots),
        "marks": _marks(store.marks),
        "recoveries": {
            str(number): {"seq": recovery.seq, "base": recovery.base}
            for number, recovery in store.recoveries.items()
        },
        "views": {str(number): view.seq for number, view in store.views.items()},
        "images": options.images,
        "overflow": options.overflow,
        "sync": options.sync,
        "keep_at_least": _seconds(options.keep_at_least),
        "keep_at_most": _seconds(options.keep_at_most),
        "archive": None if store.archiving is None else archive_told(store.archiving),
        "problems": store.problems,
    }


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


def _marks(marks: Mapping[str, Mark]) -> Row:
    told: Row = {}
    for name, mark in marks.items():
        told[name] = {"seq": mark.seq, "time": time_text(mark.time_ns)}
        if mark.volumes is not None:
            told[name]["volumes"] = list(mark.volumes)
    return told


def _snapshots(snapshots: Mapping[str, Snapshot]) -> Row:
    return {
        name: {
            "seq": snapshot.seq,
            "time": time_text(snapshot.time_ns),
            "volumes": list(snapshot.volumes),
            "complete": snapshot.complete,
            "pinned": snapshot.pinned,
        }
        for name, snapshot in snapshots.items()
    }


def names(store: Store, report: Report) -> list[str]:
    """Return the names of marks and snapshots."""
    return [*store.marks, *store.snapshots]


def log(
    history: Store | LogHistory, report: Report, start: str | None = None, stop: str | None = None
) -> int:
    """Give the entries of a store's journal, or of a log, as rows; return how many there are."""
    first, last = (None if text is None else point_of(history, text) for text in (start, stop))
    count, rows = 0, tables.rows(history, first, last)
    while part := list(islice(rows, _ROWS)):
        report.rows(part)
        count += len(part)
    return count


def history(
    store: Store, report: Report, offset: int, length: int, volume: str | None = None
) -> int:
    """Give the entries that wrote in a range as rows, oldest first; return how many there are."""
    entries = store.history(offset, length, volume)
    volumes = list(store.volumes)
    for first in range(0, len(entries), _ROWS):
        report.rows([
            {"seq": entry["seq"], "time": time_text(entry["time_ns"]), "kind": KINDS[entry["kind"]],
             "volume": volumes[entry["volume"]], "offset": entry["offset"],
             "length": entry["length"]}
            for entry in _dicts(entries[first : first + _ROWS])
        ])  # fmt: skip
    return len(entries)


def _dicts(entries: NDArray[np.void]) -> list[dict[str, int]]:
    names = entries.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in entries.tolist()]


def diff(
    store: Store,
    report: Report,
    a: str,
    b: str,
    volume: str | None = None,
    exact: bool = False,
) -> dict[str, int]:
    """Give the extents where two states differ as rows; return how many, and their bytes."""
    extents = store.diff(point_of(store, a), point_of(store, b), volume, exact=exact)
    volumes = list(store.volumes)
    for first in range(0, len(extents), _ROWS):
        report.rows([
            {"volume": volumes[index], "offset": offset, "length": length}
            for index, offset, length in extents[first : first + _ROWS].tolist()
        ])  # fmt: skip
    return {"extents": len(extents), "bytes": int(extents["length"].sum())}


def plan(store: Store, report: Report, to: str, base: str | None = None) -> Row:
    """Say how a state would be rebuilt, what that moves, and what restoring it would."""
    point = point_of(store, to)
    found = store.plan(point, base)
    return {
        "route": found.route,
        "base": found.base,
        "entries": found.entries,
        "bytes": found.bytes,
        "compared": found.compared,
        "oldest_after_restore": found.oldest_after_restore,
    }


def verify(store: Store, report: Report) -> dict[str, Any]:
    """Read everything, and check it."""
    return store.verify(report.progress)._asdict()
