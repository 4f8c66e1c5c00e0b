"""The operation that archives a store, for as long as whoever asked for it listens."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from jrnl.control.files import check_outside
from jrnl.errors import StoreClosed

if TYPE_CHECKING:
    from jrnl.archive.working import Archive
    from jrnl.control.report import Report, Row
    from jrnl.store import Store

_LOOK_SECONDS = 0.1


def archive(
    store: Store,
    report: Report,
    url: str,
    once: bool = False,
    collect: bool = False,
    interval: float | None = None,
    lag_at_most: float | None = None,
    keep: float | None = None,
    grace: float | None = None,
) -> Row:
    """Archive a store until the report raises; with `once`, what there is now.

    It gives a row whenever something has changed. Where the store is archived to the same address
    already, that goes on, here and after this.
    """
    if "://" not in url:
        check_outside(url, store.options.path)
    given: dict[str, Any] = {
        "interval": interval, "lag_at_most": lag_at_most, "keep": keep, "grace": grace
    }  # fmt: skip
    options = {name: value for name, value in given.items() if value is not None}
    with ExitStack() as closing:
        working = store.archiving
        if working is None or working.url != url.rstrip("/"):
            working = closing.enter_context(store.archive(url, **options))
        _archive_now(store, working, report) if once else _follow(store, working, report)
        told = archive_told(working)
        if collect:
            told["collected"] = working.collect()._asdict()
        return told


def archive_told(archive: Archive) -> Row:
    """Say where a store is archived, and how far."""
    return {
        "url": archive.url,
        "seq": archive.archived_seq,
        "age": round(archive.age, 3),
        "epoch": archive.epoch,
        "problem": None if archive.problem is None else str(archive.problem),
    }


def _archive_now(store: Store, archive: Archive, report: Report) -> None:
    """Wait until all that is written now is archived; an opened store takes no entry for that."""
    durable = int(store.metrics()["durable_seq"])
    wanted = durable if durable >= store.seq else store.flush()
    first = max(archive.archived_seq, 0)
    while archive.archived_seq < wanted:
        report.progress(max(archive.archived_seq, 0) - first, max(wanted - first, 1))
        if archive.failure is not None:
            raise archive.failure
        _check_works(archive)
        time.sleep(_LOOK_SECONDS)


def _check_works(archive: Archive) -> None:
    if archive.has_ended:
        raise archive.problem or StoreClosed("the archive was closed")


def _follow(store: Store, archive: Archive, report: Report) -> None:
    """Give rows until the report raises, or the archive has ended."""
    last: tuple[object, ...] = ()
    while True:
        _check_works(archive)
        row = archive_told(archive)
        seen = row["seq"], row["problem"], row["epoch"]
        if seen != last:
            report.rows([row])
            last = seen
        durable = int(store.metrics()["durable_seq"])
        report.progress(max(archive.archived_seq, 0), max(durable, 0))
        time.sleep(_LOOK_SECONDS)
