"""Operations that look at a store, and change nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from jrnl.control.points import point_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from jrnl.control.report import Report, Row
    from jrnl.points import Mark
    from jrnl.snapshot import Snapshot
    from jrnl.store import Store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS = 1000  # told at a time
KINDS = ("none", "write", "discard", "zeroes", "mark", "flush", "rewind")
_MARK, _REWIND = 4, 6


def time_text(time_ns: int) -> str:
    """Return a time as ISO 8601 text, in UTC, that is a point, too."""
    return (_EPOCH + timedelta(microseconds=time_ns // 1000)).isoformat()


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
        "volumes": dict(options.volumes),
        "journal": {
            "capacity": journal.capacity,
            "used": journal.used,
            "entries": newest - store.stats().since if newest else 0,
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


def log(store: Store, report: Report, start: str | None = None, stop: str | None = None) -> int:
    """Give the retained entries as rows, oldest first; return how many there are."""
    bounds = (None if text is None else _bound(store, text) for text in (start, stop))
    entries = store.journal.between(*bounds)
    for rows in _entry_rows(store, entries):
        report.rows(rows)
    return len(entries)


def _bound(store: Store, text: str) -> int:
    """Return a seq, whether or not it is an entry's, or that of what a name or a time means."""
    point = point_of(store, text)
    return point if isinstance(point, int) else int(store.states(point, point)[0])


def history(
    store: Store, report: Report, offset: int, length: int, volume: str | None = None
) -> int:
    """Give the entries that wrote in a range as rows, oldest first; return how many there are."""
    entries = store.history(offset, length, volume)
    for rows in _entry_rows(store, entries):
        report.rows(rows)
    return len(entries)


def _entry_rows(store: Store, entries: NDArray[np.void]) -> Iterator[list[Row]]:
    volumes = list(store.volumes)
    marks: dict[int, str] = {}
    if np.any(entries["kind"] == _MARK):
        marks = {mark.seq: name for name, mark in store.marks.items()}
    for first in range(0, len(entries), _ROWS):
        part = entries[first : first + _ROWS].tolist()
        yield [_entry_row(volumes, marks, *entry[:6]) for entry in part]


def _entry_row(
    volumes: list[str],
    marks: dict[int, str],
    seq: int,
    time_ns: int,
    kind: int,
    volume: int,
    offset: int,
    length: int,
) -> Row:
    row: Row = {"seq": seq, "time": time_text(time_ns), "time_ns": time_ns, "kind": KINDS[kind]}
    if kind < _MARK:
        row |= {"volume": volumes[volume], "offset": offset, "length": length}
    elif kind == _MARK:
        row["name"] = marks.get(seq)
    elif kind == _REWIND:
        row["state"] = offset
    return row


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
