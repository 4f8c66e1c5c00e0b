"""From an offset in a volume to its place in a picture, which leaves out what was never written."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.heat import Changes
from jrnl.history import union
from jrnl.plot.axis import as_size

Ints = NDArray[np.int64]

_LEAST = 16  # bytes of a row
_TICKS = 9


class Ruler(NamedTuple):
    """Some parts of a volume, in order, cut into rows of one block.

    Attributes
    ----------
    block : int
        Bytes of a row.
    starts : ndarray
        int64: the offset at which each part begins, a multiple of `block`.
    rows : ndarray
        int64[parts + 1]: the row that each begins with, and last how many rows there are.
    size : int
        Bytes of the volume.
    """

    block: int
    starts: Ints
    rows: Ints
    size: int

    @property
    def row_count(self) -> int:
        """How many rows there are."""
        return int(self.rows[-1])

    @property
    def is_whole(self) -> bool:
        """Whether all of the volume is shown."""
        return self.row_count * self.block >= self.size

    def shown_bytes(self) -> int:
        """Return how many bytes of the volume are shown."""
        return min(self.row_count * self.block, self.size)

    def place(self, offsets: Ints) -> Ints:
        """Return where offsets stand, in bytes of what is shown; those left out, where it ends."""
        part = np.maximum(np.searchsorted(self.starts, offsets, "right") - 1, 0)
        lengths = np.diff(self.rows) * self.block
        within = np.clip(offsets - self.starts[part], 0, lengths[part])
        placed: Ints = self.rows[part] * self.block + within
        return placed

    def placed(self, changes: Changes) -> Changes:
        """Return what of some changes is shown, by its place."""
        low = self.place(changes.offset)
        high = self.place(changes.offset + changes.length)
        return changes._replace(offset=low, length=high - low)

    def ticks(self) -> list[tuple[int, str]]:
        """Return rows to label, and the offsets at which they begin; none is close to another.

        Where parts begin comes first, that of the longest before all, then round offsets.
        """
        apart = max(1, self.row_count // _TICKS)
        step = self.block
        while step * _TICKS < self.shown_bytes():
            step *= 2
        columns = (self.starts, self.rows[:-1], np.diff(self.rows))
        parts = list(zip(*(column.tolist() for column in columns), strict=True))
        parts.sort(key=lambda part: -part[2])
        wanted = [(first, start) for start, first, _ in parts]
        for start, first, count in parts:
            for offset in range(-(-start // step) * step, start + count * self.block, step):
                wanted.append((first + (offset - start) // self.block, offset))
        found: dict[int, int] = {}
        for row, offset in wanted:
            if all(abs(row - other) >= apart for other in found):
                found[row] = offset
        return [(row, as_size(offset)) for row, offset in sorted(found.items())]


def whole(size: int, rows: int) -> Ruler:
    """Show all of a volume in at most so many rows."""
    block = _LEAST
    while block * rows < size:
        block *= 2
    return Ruler(block, np.zeros(1, np.int64), np.array([0, max(1, -(-size // block))]), size)


def touched(size: int, rows: int, changes: Changes) -> Ruler:
    """Show what was touched of a volume, and what lies beside it, in about so many rows.

    That is all of it where half of the rows would be touched.
    """
    everything = whole(size, rows)
    wrote = changes.length > 0
    starts = changes.offset[wrote].astype(np.uint64)
    stops = starts + changes.length[wrote].astype(np.uint64)
    low, high = (edges.astype(np.int64) for edges in union(starts, stops))
    if not low.size:
        return everything
    block = _LEAST
    while True:
        low, high = _joined(low // block, -(-high // block))
        count = int((high - low).sum())
        if count <= rows or block == everything.block:
            break
        low, high, block = low * block, high * block, 2 * block
    if 2 * count >= everything.row_count and block == everything.block:
        return everything
    row = np.concatenate([[0], np.cumsum(high - low)])
    return Ruler(block, low * block, row, size)


def _joined(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Join ranges of blocks that have at most one block between them; they rise."""
    begins = np.flatnonzero(low[1:] > high[:-1] + 1) + 1
    return low[np.concatenate([[0], begins])], high[np.concatenate([begins - 1, [-1]])]
