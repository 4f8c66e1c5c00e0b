"""Crash states: what a disk may hold if power fails, of any history.

    for state in crash.states(history, mode="subset"):
        check(state)                       # or state.path(), for a program

A history is a store, or a log that `jrnl.logwrites.attach` reads in place. State n of it is what a
disk holds after n entries; but a disk may hold back what no flush has asked for, so that after a
power cut there may be any of the entries since the last flush, and of one that was under way, any
of its sectors.

states      the states that there may be, one after the other
state       one of them again, by its id
bisect      the first prefix on which a check fails
shrink      of a bad state, the one with the least that is lost
campaign    a check held against many of them, in processes side by side
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.crash.campaign import Failure, Summary, campaign
from jrnl.crash.damaged import DamagedState
from jrnl.crash.find import bisect, shrink, state
from jrnl.crash.state import CrashState, Lost
from jrnl.crash.walk import Coverage, States

if TYPE_CHECKING:
    from jrnl.crash.state import Tag
    from jrnl.points import Point

__all__ = [
    "Coverage",
    "CrashState",
    "DamagedState",
    "Failure",
    "Lost",
    "States",
    "Summary",
    "bisect",
    "campaign",
    "shrink",
    "state",
    "states",
]


def states(
    history: object,
    start: Point | None = None,
    stop: Point | None = None,
    mode: str = "prefix",
    limit: int | None = None,
    seed: int = 0,
    reduce: str | None = None,
    tag: Tag | None = None,
    damage: str | None = None,
) -> States:
    """Yield what a disk may hold if power fails, at each moment from `start` to `stop`.

    At a moment there is all that a flush covers which was done by then, and each write that was
    made with FUA; of all else, what `mode` says. No content comes twice, unless more was promised
    in between by a flush or a write with FUA: what was all there was before it may be too little
    after it.

    Parameters
    ----------
    history : Store or LogHistory
        Of a store, what its window holds; what a rewind dropped is in no state. In a log a FLUSH
        covers what stands before its entry; it and FUA count as done once the entry is.
    start, stop : point, optional
        The first and last moment; by default all that the history has.
    mode : {"prefix", "subset", "torn"}
        What there is of the entries that no flush covers. "prefix": those up to some entry.
        "subset": any of them. "torn": of any of them any sectors of 512 bytes; of one longer than
        512 KiB, any of up to 1024 equal pieces. A discard is an entry like any other: it may have
        happened or not, and torn, in part.
        Up to 14 entries, or sectors, that may be lost, all choices are given. Of more there is a
        sample: none lost, all, each missing, each alone, each two in all four combinations, an
        entry torn at up to 16 places, and some drawn.
    limit : int, optional
        At most so many states, spread over the history.
    seed : int
        Of what is drawn.
    reduce : {"pattern"}, optional
        Give one state for each pattern: of which kinds of write something is lost, and of which
        kinds what came later is there all the same. With a `limit`, others follow once there is one
        of each.
    tag : callable, optional
        ``tag(offset)`` names what lies there, a "superblock", say; with several volumes,
        ``tag(offset, volume)``. `CrashState.lost` tells it, and patterns go by it; without, they go
        by how long writes are, and how often there is one to the same place.
    damage : {"garbage", "unreadable"}, optional
        With ``mode="torn"``: at each moment, beside the other states, those in which one sector of
        the entry that was under way is neither old nor new: it holds anything, or cannot be read.

    Returns
    -------
    States
        An iterator of `CrashState`; its `coverage` says how much of what there is it has given.

    Raises
    ------
    InvalidArgument, InvalidType, UnknownPoint, PointExpired; while iterating, what reading the
    history raises.
    """
    return States(history, start, stop, mode, limit, seed, reduce, tag, damage)
