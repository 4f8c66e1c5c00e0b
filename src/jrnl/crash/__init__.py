"""Crash states: what a disk may hold if power fails, of any history.

    for state in crash.states(history, mode="subset"):
        check(state)                       # or state.path(), for a program

A history is a store, or a log that `jrnl.logwrites.attach` reads in place. State n of it is what a
disk holds after n entries; but a disk may hold back what no flush has asked for, so that after a
power cut there may be any of the entries since the last flush, and of one that was under way, any
of its sectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jrnl.crash.state import CrashState, Lost
from jrnl.crash.walk import Coverage, States

if TYPE_CHECKING:
    from jrnl.crash.state import Tag
    from jrnl.points import Point

__all__ = ["Coverage", "CrashState", "Lost", "States", "states"]


def states(
    history: object,
    start: Point | None = None,
    stop: Point | None = None,
    mode: str = "prefix",
    limit: int | None = None,
    seed: int = 0,
    reduce: str | None = None,
    tag: Tag | None = None,
) -> States:
    """..."""
    return States(history, start, stop, mode, limit, seed, reduce, tag)
