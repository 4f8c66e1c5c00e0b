"""Metrics: what a store counts, as plain numbers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jrnl.session import Session

Number = int | float
COUNTER, GAUGE = "counter", "gauge"
_SECOND_NS = 1_000_000_000
_WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH, _REWIND = range(1, 7)


class Metric(NamedTuple):
    """What a number is: one that only grows while the store is open, or one that goes both ways."""

    kind: str
    unit: str
    text: str


METRICS = {
    "seq": Metric(GAUGE, "seq", "Number of the newest entry, which names the present state."),
    "window_oldest": Metric(GAUGE, "seq", "The oldest state that can be rebuilt."),
    "window_seconds": Metric(GAUGE, "seconds", "From the oldest retained entry's predecessor to "
                             "the newest entry, by their times."),
    "journal_used_bytes": Metric(GAUGE, "bytes", "Of the journal, taken by retained entries."),
    "journal_capacity_bytes": Metric(GAUGE, "bytes", "Of the journal, headers and images."),
    "journal_entries": Metric(GAUGE, "entries", "Retained in the journal."),
    "volume_bytes": Metric(GAUGE, "bytes", "Of all volumes."),
    "writes_total": Metric(COUNTER, "entries", "WRITE entries: a write, a block of write_many, an "
                           "edit, a range of a restore."),
    "written_bytes_total": Metric(COUNTER, "bytes", "Written by these."),
    "discards_total": Metric(COUNTER, "entries", "DISCARD entries: a discard, or a piece of one."),
    "discarded_bytes_total": Metric(COUNTER, "bytes", "Discarded by these."),
    "zeroes_total": Metric(COUNTER, "entries", "ZEROES entries: a write_zeroes, or a piece of "
                           "one."),
    "zeroed_bytes_total": Metric(COUNTER, "bytes", "Zeroed by these."),
    "marks_total": Metric(COUNTER, "entries", "MARK entries."),
    "flushes_total": Metric(COUNTER, "entries", "FLUSH entries: flushes with anything new."),
    "rewinds_total": Metric(COUNTER, "entries", "REWIND entries: rewinds, and savepoints that an "
                            "exception has left."),
    "evictions_total": Metric(COUNTER, "entries", "That have left the journal."),
    "restores_total": Metric(COUNTER, "restores", "Recoveries restored, views promoted."),
    "folds_total": Metric(COUNTER, "folds", "Snapshots brought on, so that entries may leave."),
    "refusals_total": Metric(COUNTER, "calls", "That raised JournalFull."),
    "copies_total": Metric(COUNTER, "copies", "Snapshots' copies that were made to their end."),
    "snapshots": Metric(GAUGE, "snapshots", "There are."),
    "copies_pending": Metric(GAUGE, "copies", "Snapshots that are not copied yet."),
    "recoveries_open": Metric(GAUGE, "recoveries", "That can be taken up, or are kept."),
    "views_open": Metric(GAUGE, "views", "That are open."),
    "pins": Metric(GAUGE, "pins", "That are held, by marks and views, too."),
    "problems": Metric(GAUGE, "problems", "In store.problems."),
    "poisoned": Metric(GAUGE, "0 or 1", "1: a write or sync failed, nothing is written any more."),
}  # fmt: skip
ON_DISK = {
    "durable_seq": Metric(GAUGE, "seq", "Entries up to here survive a crash."),
    "synced_seq": Metric(GAUGE, "seq", "Entries up to here are in the volumes' files, durably."),
    "overlay_used_bytes": Metric(GAUGE, "bytes", "Of memory, waiting there for the volumes' "
                                 "files."),
    "overlay_capacity_bytes": Metric(GAUGE, "bytes", "Of memory for that."),
    "commits_total": Metric(COUNTER, "groups", "Of entries made durable, each by one sync."),
    "write_backs_total": Metric(COUNTER, "times", "That volumes' files were brought up to date."),
}  # fmt: skip

ARCHIVED = {
    "archive_seq": Metric(GAUGE, "seq", "The newest state that the archive has; -1: none yet."),
    "archive_age_seconds": Metric(GAUGE, "seconds", "For which something durable has not been "
                                  "archived; 0: all is."),
    "archive_failures_total": Metric(COUNTER, "failures", "Of the object store, or in reading what "
                                     "was to be archived."),
    "archive_failing": Metric(GAUGE, "0 or 1", "1: the last attempt failed; it is tried again."),
}  # fmt: skip


def metrics(session: Session, oldest: int, problems: int) -> dict[str, Number]:
    """Return all numbers; see `Store.metrics`. The caller holds the lock.

    Nothing here goes through the journal's entries.
    """
    engine, catalog, counts = session.engine, session.catalog, session.events.counts
    made = engine.made
    return {
        "seq": engine.seq,
        "window_oldest": oldest,
        "window_seconds": max(0, engine.time_ns - engine.base_time_ns) / _SECOND_NS,
        "journal_used_bytes": engine.used,
        "journal_capacity_bytes": engine.capacity,
        "journal_entries": engine.entry_count,
        "volume_bytes": sum(engine.sizes),
        "writes_total": made[_WRITE][0],
        "written_bytes_total": made[_WRITE][1],
        "discards_total": made[_DISCARD][0],
        "discarded_bytes_total": made[_DISCARD][1],
        "zeroes_total": made[_ZEROES][0],
        "zeroed_bytes_total": made[_ZEROES][1],
        "marks_total": made[_MARK][0],
        "flushes_total": made[_FLUSH][0],
        "rewinds_total": made[_REWIND][0],
        "evictions_total": engine.evictions,
        "restores_total": counts["restored"] + counts["promoted"],
        "folds_total": counts["folded"],
        "refusals_total": counts["full"],
        "copies_total": counts["copied"] + counts["copy_damaged"],
        "snapshots": len(catalog.snapshots),
        "copies_pending": len(session.copier.pending()),
        "recoveries_open": len(catalog.recoveries()),
        "views_open": len(session.views.all()),
        "pins": len(session.pins.all()),
        "problems": problems,
        **session.metrics(),
        **(session.archive.metrics() if session.archive is not None else {}),
    }
