"""Finding states: by their id, the first bad one, the one with the least that is lost."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from jrnl.crash.check import judge_of
from jrnl.crash.damaged import DAMAGES, DamagedState
from jrnl.crash.files import Run
from jrnl.crash.source import source_of
from jrnl.crash.state import CrashState
from jrnl.crash.timeline import Timeline
from jrnl.errors import InvalidArgument, InvalidType, PointExpired
from jrnl.search import first_bad

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.crash.check import Check, Judge
    from jrnl.crash.state import Tag
    from jrnl.points import Point
    from jrnl.store import Store

_ID = re.compile(r"(\d{1,19})(?:(?:@(\d{1,19}))?-([stgu])([0-9a-f]+))?", re.ASCII)


def state(
    history: object,
    id: str,
    *,
    tag: Tag | None = None,
    recover: Callable[[Store], object] | None = None,
) -> CrashState:
    """Make a crash state again by its id.

    Parameters
    ----------
    history : Store or LogHistory
        The history that it is of, or one with the same entries.
    id : str
        `CrashState.id`. Of a state of a fork, ``"120-s3:17"``, say, the history is that fork; or
        the first one, with `recover`.
    tag : callable, optional
        As for `states`.
    recover : callable, optional
        The program under test: it gets a fork of state ``"120-s3"``, and its writes to that are the
        history that state ``"17"`` is looked up in.

    Raises
    ------
    InvalidArgument, InvalidType
        Not an id, or not of this history.
    UnknownPoint
        The history has no such moment.
    PointExpired
        The store has let go of entries that the id tells of.
    """
    if not isinstance(id, str):
        raise InvalidType(f"the id of a state is a str, not {type(id).__name__}")
    source = source_of(history)
    run = Run(history, source, tag)
    own = id
    if run.origin is not None and id.startswith(f"{run.origin}:"):
        own = id[len(run.origin) + 1 :]
    own, _, rest = own.partition(":")
    found = _state(run, Timeline(source, None, None), own, id)
    if not rest:
        return found
    if recover is None:
        raise InvalidArgument(
            f"state {id} is one of a fork of state {found.id}: name that fork as the history, or "
            "pass recover=, what is to run on it"
        )
    fork = found.fork()
    recover(fork)
    return state(fork, f"{found.id}:{rest}", tag=tag, recover=recover)


def _state(run: Run, timeline: Timeline, own: str, id: str) -> CrashState:
    match = _ID.fullmatch(own)
    if match is None:
        raise InvalidArgument(f"{id!r} is no id of a crash state, such as '120' or '120-s3'")
    seq, base, grain, lost = int(match[1]), int(match[2] or 0), match[3], int(match[4] or "0", 16)
    stretch, done = timeline.place(seq)
    epoch = timeline.epoch(stretch, torn=grain not in ("s", None))
    if grain is not None and epoch.is_cut and base < epoch.base:
        raise PointExpired(
            f"{id!r} counts entries from {base} on, and the history now begins at {epoch.base}"
        )
    units = [
        k for k in range(epoch.firsts[done]) if epoch.free >> k & 1 and epoch.units[k].seq > base
    ]
    run.enter(epoch)
    damage = next((damage for damage in DAMAGES if damage[0] == grain), None)
    if damage is not None:
        if lost >= len(units):
            raise InvalidArgument(f"{id!r}: at {seq} there are {len(units)} sectors, from 0")
        return DamagedState(run, epoch, seq, done, units[lost], damage)
    if lost >> len(units):
        raise InvalidArgument(
            f"{id!r}: at {seq} there are {len(units)} of them that may be lost, and it names more"
        )
    kept = (1 << epoch.firsts[done]) - 1
    for place, k in enumerate(units):
        kept ^= (lost >> place & 1) << k
    return CrashState(run, epoch, seq, done, kept)


def bisect(
    history: object,
    check: Check,
    start: Point | None = None,
    stop: Point | None = None,
    *,
    tag: Tag | None = None,
) -> CrashState | None:
    """Find the first prefix at which a check fails: nothing lost, the power cut at some entry.

    It looks at about log2 of the number of entries, and takes it that from the first bad state on
    all are bad.

    Parameters
    ----------
    history : Store or LogHistory
    check : callable or command
        As for `campaign`.
    start, stop : point, optional
        The states to look among, both included.

    Returns
    -------
    CrashState or None
        None where the state at `stop` is good.

    Raises
    ------
    InvalidArgument, InvalidType, UnknownPoint, PointExpired, and what reading raises.
    """
    judge = judge_of(check)
    source = source_of(history)
    timeline = Timeline(source, start, stop)
    rows = source.rows
    changes = rows["seq"][(rows["length"] > 0) & (rows["seq"] > timeline.start)]
    seqs = np.append(timeline.start, changes[changes <= timeline.stop])

    def at(seq: int) -> CrashState:
        return _state(Run(history, source, tag), timeline, str(seq), str(seq))

    found = first_bad(seqs, lambda seq: judge(at(seq)) is None)
    return None if found is None else at(found)


def shrink(state: CrashState, check: Check) -> CrashState:
    """Lose less and less, as long as the check fails: return the state with the least that is lost.

    Of what the state has lost, a part is put back, then another one: Zeller and Hildebrandt's delta
    debugging (ddmin, IEEE TSE 28(2), 2002). No single loss can be taken from the result without the
    check passing. The moment stays. Of a torn state whole entries are put back first.
    A damaged sector is mended where that alone is not what is wrong.

    Raises
    ------
    InvalidArgument
        The check passes on `state` itself.
    InvalidType, and what reading raises.
    """
    judge = judge_of(check)
    if judge(state._afresh()) is None:
        raise InvalidArgument(f"the check passes on {state.id}: there is nothing to shrink")
    return least_lost(state, judge)


def least_lost(state: CrashState, judge: Judge) -> CrashState:
    """Do what `shrink` does, of a state that is bad."""
    if isinstance(state, DamagedState):
        whole = state._without([])
        return state if judge(whole._afresh()) is None else whole
    epoch = state._epoch
    lost = [k for k in range(epoch.firsts[state._done]) if not state._kept >> k & 1]
    by_row: dict[int, list[int]] = {}
    for k in lost:
        by_row.setdefault(epoch.units[k].row, []).append(k)
    smaller = _least(state, judge, list(by_row.values()))
    if epoch.torn:
        smaller = _least(state, judge, [[k] for part in smaller for k in part])
    return state._without([k for part in smaller for k in part])


def _least(state: CrashState, judge: Judge, parts: list[list[int]]) -> list[list[int]]:
    """Return the fewest parts, each a list of units, whose loss is still bad: ddmin."""

    def is_bad(some: list[list[int]]) -> bool:
        return judge(state._without([k for part in some for k in part])) is not None

    if is_bad([]):
        return []
    count = 2
    while len(parts) > 1:
        edges = np.linspace(0, len(parts), min(count, len(parts)) + 1).astype(int).tolist()
        chunks = [(parts[a:b], 2) for a, b in pairwise(edges)]
        rests = [(parts[:a] + parts[b:], max(count - 1, 2)) for a, b in pairwise(edges)]
        for tried, again in chunks + rests:
            if len(tried) < len(parts) and is_bad(tried):
                parts, count = tried, again
                break
        else:
            if count >= len(parts):
                return parts
            count = min(count * 2, len(parts))
    return parts
