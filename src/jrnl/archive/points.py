"""Points of an archive: which state one names, and why one that is not there is not."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from jrnl._core import FORMAT
from jrnl.archive.reader import Damaged
from jrnl.archive.way import shortest
from jrnl.errors import PointExpired, UnknownPoint, shown
from jrnl.points import NamePoint, TimePoint, parse_point

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jrnl.archive.manifest import Manifest
    from jrnl.archive.reader import Reader
    from jrnl.points import Point

_REWIND = FORMAT["kinds"]["REWIND"]
_NAMED = 8  # names that a message has
_NEAR = 16  # states that are tried, to tell which are there
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def resolve(reader: Reader, point: Point | None) -> int:
    """Return the seq of the state that a point names; None names the newest one.

    Raises
    ------
    UnknownPoint
        There is no such mark, or no such state yet.
    PointExpired
        It was dropped by a rewind, or is not in the archive.
    InvalidType, InvalidArgument, and what reading segments raises.
    """
    manifest = reader.manifest
    if not manifest.snapshots:
        raise UnknownPoint(f"{reader.objects.url}: no state is archived yet")
    if point is None:
        return manifest.seq
    parsed = parse_point(point)
    if isinstance(parsed, TimePoint):
        return _at_time(reader, parsed.time_ns)
    if isinstance(parsed, NamePoint):
        row = manifest.marks.get(parsed.name)
        if row is None:
            raise UnknownPoint(
                f"no mark is called {parsed.name!r}; the archive has {_some(manifest.marks)}"
            )
        return _checked(reader, row[0])
    return _checked(reader, parsed.seq)


def as_datetime(time_ns: int) -> datetime:
    """Return a time in nanoseconds as one with a zone; years that Python has not are cut."""
    low, high = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    try:
        return _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return low if time_ns < 0 else high


def _some(names: Iterable[str]) -> str:
    listed = [*names]
    told = ", ".join(map(repr, listed[:_NAMED])) or "none"
    return told + (f", and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")


def _checked(reader: Reader, seq: int) -> int:
    """Return a seq whose state is there. Raises UnknownPoint, PointExpired."""
    manifest = reader.manifest
    if seq < 0:
        raise UnknownPoint(
            f"there is no state {shown(seq)}; states are numbered from 0, and the newest that is "
            f"archived is {manifest.seq}"
        )
    if seq > manifest.seq:
        raise UnknownPoint(f"state {shown(seq)} is not archived; the newest is {manifest.seq}")
    oldest = manifest.snapshots[0].seq
    if seq < oldest:
        raise PointExpired(
            f"state {seq} is not in the archive any more; there are {oldest} to {manifest.seq}"
        )
    reader.reach(seq)
    dropped_to = None
    with suppress(Damaged):  # then nobody can tell: it was there once, and its bytes are
        last = _replaced_by(reader, seq)
        dropped_to = _dropped_to(reader, last)
        if last != seq and not _has_entry(reader, seq):
            seq = last
    if dropped_to is not None:
        raise PointExpired(
            f"state {seq} was dropped by a rewind to {dropped_to}; the archive has {oldest} to "
            f"{manifest.seq}"
        )
    if shortest(reader, seq) is None:
        raise _in_a_gap(reader.manifest, f"state {seq}", seq)
    return seq


def _dropped_to(reader: Reader, seq: int) -> int | None:
    """Return to which state the rewinds went back that have dropped one; None: it is there."""
    lowest = None
    for head in reader.heads(reader.manifest.dropped_by(seq)):
        rows = head.rows[head.rows["kind"] == _REWIND]
        over = rows["position"][(rows["seq"] > seq) & (rows["position"] < seq)]
        if over.size:
            lowest = min(int(over.min()), seq if lowest is None else lowest)
    return lowest


def _replaced_by(reader: Reader, seq: int) -> int:
    """Return the rewind that took the place of a rewind, and has the same state; or `seq`."""
    for head in reader.heads(reader.manifest.dropped_by(seq)):
        for row in head.rows[head.rows["kind"] == _REWIND]:
            follows = int(row["position"])
            if int(row["offset"]) == seq != follows and follows < seq < int(row["seq"]):
                seq = int(row["seq"])
    return seq


def _has_entry(reader: Reader, seq: int) -> bool:
    """Whether the archive has the entry of a seq, or a snapshot of that state."""
    manifest = reader.manifest
    around = [each for each in manifest.segments if each.first <= seq <= each.last]
    return any(seq in head.rows["seq"] for head in reader.heads(around)) or any(
        each.seq == seq for each in manifest.snapshots
    )


def _in_a_gap(manifest: Manifest, what: str, seq: int) -> PointExpired:
    """Say of a state that the archive has not between which ones it is missing."""
    ends = {each.seq for each in manifest.snapshots} | {each.last for each in manifest.segments}
    near = sorted((end for end in ends if end < seq), reverse=True)[:_NEAR]
    before = next((end for end in near if manifest.way_to(end) is not None), None)
    after = min((each.seq for each in manifest.snapshots if each.seq > seq), default=None)
    nearest = " and ".join(str(each) for each in (before, after) if each is not None)
    return PointExpired(
        f"{what} is not in the archive: its entries had left the journal before they were taken; "
        f"the nearest that are there: {nearest or 'none'}"
    )


def _at_time(reader: Reader, time_ns: int) -> int:
    """Return the last state at or before a time that no rewind has dropped."""
    reader.reach_time(time_ns)
    manifest = reader.manifest
    oldest = manifest.snapshots[0]
    if time_ns < oldest.time_ns:
        raise PointExpired(
            f"the archive has no state of {as_datetime(time_ns)}: its oldest, {oldest.seq}, is of "
            f"{as_datetime(oldest.time_ns)}"
        )
    seq = max(each.seq for each in manifest.snapshots if each.time_ns <= time_ns)
    seq = max(seq, *(each.last for each in manifest.lists if each.time_ns <= time_ns), 0)
    times = np.array([each.time_ns for each in manifest.segments], np.int64)
    k = int(np.searchsorted(times, min(time_ns, (1 << 63) - 1), "right"))
    if k:
        seq = max(seq, manifest.segments[k - 1].last)
    if k < len(manifest.segments) and manifest.segments[k].last > seq:
        [head] = reader.heads([manifest.segments[k]])
        done = int(np.searchsorted(head.rows["time_ns"], time_ns, "right"))
        if done:
            seq = max(seq, int(head.rows["seq"][done - 1]))
    while True:
        reader.reach(seq)
        dropped_to = _dropped_to(reader, seq)
        if dropped_to is None:
            break
        seq = dropped_to
    if _before_a_gap(reader.manifest, seq):
        raise _in_a_gap(reader.manifest, f"the state of {as_datetime(time_ns)}", seq + 1)
    return _checked(reader, seq)


def _before_a_gap(manifest: Manifest, seq: int) -> bool:
    """Whether states that come right after one are not in the archive."""
    if seq >= manifest.seq:
        return False
    following = (*manifest.lists, *manifest.segments)
    return all(not each.base <= seq < each.last for each in following)
