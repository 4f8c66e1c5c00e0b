"""Operations that change a store: names, production, or what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.control.looking import time_text
from jrnl.control.points import point_of
from jrnl.errors import InvalidArgument, PinnedPoint, UnknownPoint
from jrnl.logwrites import replay as replay_log

if TYPE_CHECKING:
    from jrnl.control.report import Report, Row
    from jrnl.recovery import Recovery
    from jrnl.store import Store


def mark(
    store: Store, report: Report, name: str, at: str | None = None, pinned: bool = False
) -> Row:
    """Name the present state, or another one, durably."""
    made = store.mark(name, pinned, at=None if at is None else point_of(store, at))
    store.flush()
    return {"name": made.name, "seq": made.seq, "time": time_text(made.time_ns)}


def snapshot(store: Store, report: Report, name: str) -> Row:
    """Take a snapshot of the present state."""
    taken = store.snapshot(name)
    return {"name": taken.name, "seq": taken.seq, "time": time_text(taken.time_ns)}


def delete_snapshot(store: Store, report: Report, name: str) -> Row:
    """Delete a snapshot."""
    found = store.snapshots.get(name)
    if found is None:
        known = ", ".join(map(repr, store.snapshots)) or "none"
        raise UnknownPoint(f"no snapshot is called {name!r}; there is {known}")
    seq = found.seq
    found.delete()
    return {"name": name, "seq": seq}


def restore(
    store: Store, report: Report, to: str, base: str | None = None, dry_run: bool = False
) -> Row:
    """Rebuild a state, and copy it onto production; or say what that would do."""
    recovery = store.recover(point_of(store, to), base, progress=report.progress)
    try:
        told = _restore(store, recovery, dry_run=dry_run)
    except BaseException:
        recovery.close()
        raise
    if dry_run:
        recovery.close()
    return told


def again(store: Store, report: Report, number: int | None = None, dry_run: bool = False) -> Row:
    """Recover once more from the preserved copy, and copy that onto production."""
    first = _recovery(store, number)
    recovery = first.again(progress=report.progress)
    try:
        return {"again": first.id, **_restore(store, recovery, dry_run=dry_run)}
    finally:
        recovery.close()  # the first one has the same copy, and can be taken up once more


def _restore(store: Store, recovery: Recovery, *, dry_run: bool) -> Row:
    plan = recovery.plan
    told = {
        "id": recovery.id,
        "state": recovery.seq,
        "route": plan.route,
        "base": plan.base,
        "entries": plan.entries,
        "bytes": plan.bytes,
    }
    oldest = plan.oldest_after_restore if dry_run else 0
    done = recovery.restore(dry_run=dry_run)
    window = {"oldest": oldest, "newest": done.last_seq}
    if not dry_run:
        store.flush()
        window = store.window._asdict()
    return told | {"restored": done._asdict(), "window": window}


def delete_recovery(
    store: Store, report: Report, number: int | None = None, dry_run: bool = False
) -> Row:
    """Give up a recovery, with what it preserves; or say which one that would be."""
    if number is None or dry_run:
        number = _recovery(store, number).id
    if not dry_run:
        store.delete_recovery(number)
    return {"id": number}


def _recovery(store: Store, number: int | None) -> Recovery:
    recoveries = store.recoveries
    if number is None and recoveries:
        number = max(recoveries)
    if number is None:
        raise InvalidArgument("there is no recovery to do again; each restore leaves one")
    if number not in recoveries:
        known = ", ".join(map(str, recoveries)) or "none"
        raise InvalidArgument(f"there is no recovery {number}; there is {known}")
    return recoveries[number]


def rewind(
    store: Store, report: Report, to: str, dry_run: bool = False, close_views: bool = False
) -> Row:
    """Put production back in place, and drop the entries after the state; or say what would go."""
    point = point_of(store, to)
    if store.options.images == "after":
        raise InvalidArgument("a rewind needs before-images, and the store keeps none: use restore")
    if dry_run:
        lost = store.stats(since=point)
        marks = [name for name, mark in store.marks.items() if mark.seq > lost.since]
        back = store.plan(point, "production").bytes
        return {"state": lost.since, "entries": lost.entries, "bytes": back, "marks": marks}
    before = {name: mark.seq for name, mark in store.marks.items()}
    state = store.stats(since=point).since
    try:
        done = store.rewind(point, close_views=close_views)
    except PinnedPoint as error:
        raise _in_the_way(store, error) from error
    left = store.marks
    return {
        "state": state,
        **done._asdict(),
        "marks": [name for name in before if name not in left],
    }


def _in_the_way(store: Store, error: PinnedPoint) -> PinnedPoint:
    """Return what is said of a rewind that is refused, in words of the command."""
    ways = []
    if store.recoveries:
        numbers = ", ".join(map(str, store.recoveries))
        ways.append(f"recoveries: {numbers} ('again ID --delete' gives one up)")
    if store.views:
        states = ", ".join(str(view.seq) for view in store.views.values())
        ways.append(f"views, also exported ones, of states {states} (--close-views closes them)")
    pinned = [pin.name for pin in store.pins if pin.name is not None]
    if pinned:
        ways.append(f"pinned marks: {', '.join(pinned)} ('mark NAME --unpin' lets one go)")
    if not ways:
        return error
    told = "the rewind would drop entries that are needed by what is open or pinned"
    return PinnedPoint(f"{told}; there are {'; '.join(ways)}")


def unpin(store: Store, report: Report, name: str) -> Row:
    """Let a pinned mark go on as an ordinary one."""
    store.unpin(name)
    return {"name": name}


def replay(store: Store, report: Report, log: str, volume: str | None = None) -> Row:
    """Write a dm-log-writes log onto a volume, entry by entry, durably."""
    target = store.volume if volume is None else store[volume]
    seqs = replay_log(log, target, report.progress)
    store.flush()
    return {"volume": target.name, "entries": len(seqs) - 1, "seq": store.seq,
            "first_seq": int(seqs[0]) + 1, "last_seq": int(seqs[-1])}  # fmt: skip
