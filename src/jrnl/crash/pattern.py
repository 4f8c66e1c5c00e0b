"""Patterns: crash states that are alike, in what kinds of block are lost relative to which.

Programs fail by kinds of write, a record without its header, not by single ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jrnl.crash.files import Run
    from jrnl.crash.source import Source
    from jrnl.crash.state import CrashState

Kind = tuple[object, ...]


class Patterns:
    """Which patterns were seen.

    A pattern is: of which kinds something is lost, and of which kinds what came later is there all
    the same. A kind is what the caller's tagger says of the place; else how long the write is, and
    how often its place is written to in the history, both to the next power of two.
    """

    def __init__(self, source: Source, run: Run, *, tagged: bool) -> None:
        self._run, self._tagged = run, tagged
        self.seen: set[frozenset[object]] = set()
        rows = source.rows[source.rows["length"] > 0]
        places, counts = np.unique(rows[["volume", "offset"]], return_counts=True)
        self._heat = dict(zip(places.tolist(), counts.tolist(), strict=True))

    def is_new(self, state: CrashState) -> bool:
        """Whether the state's pattern had not been seen; it now has."""
        pattern = self.of(state)
        if pattern in self.seen:
            return False
        self.seen.add(pattern)
        return True

    def of(self, state: CrashState) -> frozenset[object]:
        """Return the pattern of a state."""
        first_lost: dict[Kind, int] = {}
        last_kept: dict[Kind, int] = {}
        epoch = state._epoch
        for k in range(epoch.firsts[state._done]):
            kind = self._kind(epoch.rows[epoch.units[k].row], epoch.units[k].offset)
            if state._kept >> k & 1:
                last_kept[kind] = k
            else:
                first_lost.setdefault(kind, k)
        after = {
            (lost, kept)
            for lost, k in first_lost.items()
            for kept, last in last_kept.items()
            if k < last
        }
        return frozenset({*first_lost, *after})

    def _kind(self, row: np.void, offset: int) -> Kind:
        volume = int(row["volume"])
        if self._tagged:
            return (self._run.tagged(volume, offset),)
        heat = self._heat[volume, int(row["offset"])]
        return volume, int(row["length"]).bit_length(), heat.bit_length(), bool(row["zeroes"])
