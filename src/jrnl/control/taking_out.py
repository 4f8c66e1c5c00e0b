"""Operations that take states out of a store: into files, or into other programs' hands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl import crash as crashing
from jrnl import logwrites, tables
from jrnl.control.files import check_outside, source_of, write_volume
from jrnl.control.looking import parent_of
from jrnl.control.points import point_of
from jrnl.crash.check import judge_of

if TYPE_CHECKING:
    from typing import Any

    from jrnl.control.report import Report, Row
    from jrnl.logwrites import LogHistory
    from jrnl.store import Store


def recover(
    store: Store,
    report: Report,
    to: str,
    out: str,
    base: str | None = None,
    volume: str | None = None,
    force: bool = False,
) -> Row:
    """Rebuild a state beside production, and write a volume of it into a file."""
    with store.recover(point_of(store, to), base) as recovery:
        target = recovery.volume if volume is None else recovery[volume]
        size = write_volume(target, out, report.progress, force=force, store=source_of(store))
        plan = recovery.plan
        return {
            "state": recovery.seq, "volume": target.name, "out": out, "size": size,
            "route": plan.route, "base": plan.base, "entries": plan.entries, "bytes": plan.bytes,
        }  # fmt: skip


def export(
    store: Store,
    report: Report,
    out: str,
    at: str | None = None,
    volume: str | None = None,
    force: bool = False,
) -> Row:
    """Write a volume, as it is or was, into a file."""
    return recover(store, report, str(store.seq) if at is None else at, out, None, volume, force)


def fork(
    store: Store, report: Report, out: str, at: str | None = None, history: bool = False
) -> Row:
    """Make a store of its own that begins with a state."""
    point = None if at is None else point_of(store, at)
    with store.fork(out, point, history=history, progress=report.progress) as made:
        return {
            "out": out, "seq": made.seq, "window": made.window._asdict(),
            "volumes": dict(made.options.volumes), "parent": parent_of(made),
        }  # fmt: skip


def export_log(store: Store, report: Report, out: str, volume: str | None = None) -> Row:
    """Write what the journal holds of a volume as a dm-log-writes log."""
    check_outside(out, source_of(store))
    with store.pin(store.window.oldest):
        made = logwrites.export(store, out, volume, report.progress)
    return {"out": out, "entries": int(made.counts[-1]), "first_state": int(made.seqs[0]),
            "last_state": int(made.seqs[-1])}  # fmt: skip


def parquet(
    history: Store | LogHistory,
    report: Report,
    out: str,
    start: str | None = None,
    stop: str | None = None,
) -> Row:
    """Write the entries as a Parquet file."""
    first, last = (None if text is None else point_of(history, text) for text in (start, stop))
    check_outside(out, source_of(history))
    tables.to_parquet(history, out, first, last)
    return {"out": out}


def crash(
    history: Any,
    report: Report,
    check: list[str],
    jobs: int = 1,
    mode: str = "subset",
    limit: int | None = None,
    seed: int = 0,
    start: str | None = None,
    stop: str | None = None,
    reduce: str | None = None,
    damage: str | None = None,
    failures_max: int = 10,
    bundles: str | None = None,
    timeout: float | None = None,
) -> Row:
    """Hold a command against what a disk may hold after a power cut; see `jrnl.crash.campaign`."""
    first, last = (None if text is None else point_of(history, text) for text in (start, stop))
    check_outside(bundles, source_of(history))
    summary = crashing.campaign(
        history, check, jobs, start=first, stop=last, mode=mode, limit=limit, seed=seed,
        reduce=reduce, damage=damage, failures_max=failures_max, bundles=bundles,
        timeout=timeout,
        progress=lambda looked, failed: report.progress(looked, limit or 0),
    )  # fmt: skip
    covered = summary.coverage
    return {
        "ok": summary.ok,
        "text": str(summary),
        "junit": summary.junit(),
        "seconds": summary.seconds,
        "failures": [failure._asdict() for failure in summary.failures],
        "coverage": {"looked": covered.looked, "exact": covered.exact, "text": str(covered)},
    }


def crash_state(
    history: Any, report: Report, check: list[str], id: str, timeout: float | None = None
) -> Row:
    """Hold a command against one state, given by its id."""
    state = crashing.state(history, id)
    message = judge_of(check, timeout)(state)
    return {"ok": message is None, "id": id, "message": message, "text": state.explain()}
