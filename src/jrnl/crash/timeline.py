"""Time lines: a history cut at its flushes into epochs, and each of these into moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jrnl.crash.choose import Step
from jrnl.crash.epoch import Epoch
from jrnl.errors import InvalidArgument, PointExpired, UnknownPoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from jrnl.crash.source import Source
    from jrnl.points import Point


class Stretch(NamedTuple):
    """What lies between two flushes.

    Attributes
    ----------
    first, stop : int
        Its rows: the first one may be the flush, and carry a write, too.
    base : int
        The state that is durable when it begins.
    acked : int
        The seq of the flush; 0 where there was none.
    end : int or None
        The seq of the next flush; None where the time line ends before it.
    """

    first: int
    stop: int
    base: int
    acked: int
    end: int | None
    end_writes: bool  # whether the next flush's own entry writes, too, ...
    end_is_kept: bool  # ... and is durable by itself


class Timeline:
    """The moments of a history from `start` to `stop`.

    Raises
    ------
    UnknownPoint, PointExpired, InvalidArgument, InvalidType
    """

    def __init__(self, source: Source, start: Point | None, stop: Point | None) -> None:
        self.source = source
        self.start = source.oldest if start is None else self._seq(start)
        self.stop = source.newest if stop is None else self._seq(stop)
        if self.start > self.stop:
            raise InvalidArgument(
                f"start={self.start} is later than stop={self.stop}; exchange them"
            )
        seqs = source.rows["seq"]
        self._stop_row = int(np.searchsorted(seqs, self.stop, "right"))
        self._flushes = np.flatnonzero(source.rows["flush"])

    def _seq(self, point: Point) -> int:
        seq = self.source.resolve(point)
        if not self.source.oldest <= seq <= self.source.newest:
            raise PointExpired(
                f"state {seq} is not in the window {self.source.oldest}..{self.source.newest}"
            )
        return seq

    def stretches(self, start: int | None = None, *, prefixes: bool = False) -> Iterator[Stretch]:
        """Yield the stretches, from the one on that the state `start` lies in."""
        rows, start = self.source.rows, self.start if start is None else start
        start_row = int(np.searchsorted(rows["seq"], start, "right"))
        flushes = self._telling(start_row, prefixes=prefixes)
        # The last flush up to there has made durable what came before it.
        at = int(np.searchsorted(flushes, start_row)) - 1
        first = int(flushes[at]) if at >= 0 else 0
        acked = int(rows["seq"][first]) if at >= 0 else 0
        while True:
            at += 1
            more = at < flushes.size
            stop = int(flushes[at]) if more else self._stop_row
            base = int(rows["seq"][first - 1]) if first else self.source.oldest
            end = int(rows["seq"][stop]) if more else None
            writes = bool(more and rows["length"][stop])
            kept = bool(writes and rows["fua"][stop])
            yield Stretch(first, stop, base, acked, end, writes, kept)
            if not more:
                return
            first, acked = stop, int(rows["seq"][stop])

    def _telling(self, start_row: int, *, prefixes: bool) -> NDArray[np.int64]:
        """Return the flushes up to `stop`; of those after `start_row` in a row, the last.

        With no write between them, what is durable is the same, and the last has promised most; but
        a flush that writes with FUA has promised that, too, once it is done. Of one that writes
        without, the state before its write is no prefix: there the one before it tells.
        """
        rows, flushes = self.source.rows, self._flushes[self._flushes < self._stop_row]
        writes = rows["length"] > 0
        before = np.append(0, np.cumsum(writes))
        own = writes if prefixes else writes & rows["fua"]
        parted = (np.diff(before[flushes]) > 0) | own[flushes[1:]]
        return flushes[np.append(parted, True)[: flushes.size] | (flushes < start_row)]

    def epoch(self, stretch: Stretch, *, torn: bool) -> Epoch:
        """Return the epoch of a stretch, without what changes no bytes."""
        rows = self.source.rows[stretch.first : stretch.stop]
        rows = rows[rows["length"] > 0]
        return Epoch(self.source, rows, stretch.base, stretch.acked, torn=torn)

    def steps(self, epoch: Epoch, *, first: bool, prefixes: bool) -> list[Step]:
        """Return the moments of an epoch: at `start` in the first one, then after each entry."""
        rows = epoch.rows
        seqs = rows["seq"].tolist()
        before = sum(seq <= self.start for seq in seqs) if first else 0
        steps = [Step(self.start, before, True, before == len(seqs), False)] if first else []
        for done in range(before, len(seqs)):
            # Once the entry of a flush has written, too, the state before it may still be there.
            opens = not (done or prefixes) and bool(rows["flush"][0] and not rows["fua"][0])
            steps.append(Step(seqs[done], done + 1, opens, done + 1 == len(seqs), opens))
        return steps

    def place(self, seq: int) -> tuple[Stretch, int]:
        """Return the stretch of a state, and how many of its epoch's entries were made by then.

        Raises UnknownPoint where there is no such state.
        """
        rows = self.source.rows
        if seq != self.source.oldest and seq not in rows["seq"]:
            raise UnknownPoint(f"there is no state {seq} in the history")
        stretch = next(self.stretches(seq))
        inside = rows[stretch.first : stretch.stop]
        done = int(((inside["length"] > 0) & (inside["seq"] <= seq)).sum())
        return stretch, done
