"""What is told of a store on disk: how it was opened and closed, what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jrnl._core import Log
    from jrnl.disk.record import RecoveryRow
    from jrnl.disk.scan import Scan
    from jrnl.disk.session import DiskSession
    from jrnl.metrics import Number


def of_opening(session: DiskSession, scan: Scan, *, clean: bool) -> None:
    """Tell what an opening has found, and what it has made of that."""
    engine = session.engine
    if scan.groups:
        engine.happened("replayed", first=scan.first, last=scan.last, groups=scan.groups)
    if scan.torn:
        engine.happened("cut", seq=scan.last)
    for what in session.redone:
        engine.happened("redone", what=what)
    for problem in session.found:
        engine.happened("problem", problem=problem)
    mode = "for reading" if session.log.read_only else "for writing"
    end = "it was closed" if clean else "a crash"
    engine.happened("opened", mode=mode, end=end, seq=engine.seq, oldest=engine.base_seq)


def of_closing(session: DiskSession) -> None:
    """Tell that a store is closed, and what of it is durable."""
    log, engine = session.log, session.engine
    if log.forked:  # it goes on in the parent
        return
    if log.read_only or (session.state.clean and not log.poisoned):
        engine.happened("closed", seq=engine.seq)
    else:
        engine.happened("abandoned", durable=log.durable_seq, seq=engine.seq)


def of_kept(session: DiskSession, rows: list[RecoveryRow]) -> None:
    """Tell of recoveries that the superblocks know from now on, once."""
    while rows:
        row = rows.pop()
        session.engine.happened("kept", recovery=row.id, state=row.seq)


def numbers(log: Log) -> dict[str, Number]:
    """Return what only a store on disk counts; see `jrnl.metrics.ON_DISK`."""
    commits, write_backs = log.counts
    return {
        "poisoned": int(log.poisoned != 0),
        "durable_seq": log.durable_seq,
        "synced_seq": log.synced_seq,
        "overlay_used_bytes": log.in_memory,
        "overlay_capacity_bytes": log.memory,
        "commits_total": commits,
        "write_backs_total": write_backs,
    }
