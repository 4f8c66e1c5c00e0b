"""Which parts of a volume a snapshot reads, and what it keeps of the rows of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl.archive.table import PIECE_BYTES
from jrnl.compare import BLOCK_BYTES, united

if TYPE_CHECKING:
    from jrnl.archive.table import Rows
    from jrnl.compare import Pair

PARTS_MOST = 8  # of a piece of 64 KiB; one in more is read and sent again whole

Places = NDArray[np.int64]


class Runs(NamedTuple):
    """Ranges that rise, none across a multiple of 64 KiB: each becomes a chunk."""

    starts: Places
    stops: Places


def whole_pieces(ranges: Pair, size: int) -> Runs:
    """Return all pieces of 64 KiB that ranges touch, clipped to the volume's size in bytes."""
    return _rounded(ranges, PIECE_BYTES, size)


def dirty_runs(ranges: Pair, size: int) -> Runs:
    """Return the runs of blocks of 4 KiB that ranges touch, cut at multiples of 64 KiB."""
    return _rounded(ranges, BLOCK_BYTES, size)


def changed(rows: Rows, ranges: Pair, size: int) -> tuple[Rows, Runs]:
    """Return the rows of a volume that hold on where ranges have changed, and the runs to read.

    A piece of 64 KiB that would come to consist of more than 8 parts is read as a whole.
    """
    runs = dirty_runs(ranges, size)
    left = cut(rows, runs)
    touched, counts = np.unique(runs.starts // PIECE_BYTES, return_counts=True)
    pieces = left["offset"].astype(np.int64) // PIECE_BYTES
    kept = np.searchsorted(pieces, touched, "right") - np.searchsorted(pieces, touched, "left")
    many = touched[counts + kept > PARTS_MOST]
    if not many.size:
        return left, runs
    lengths = np.full(many.size, PIECE_BYTES, np.int64)
    whole = whole_pieces((many * PIECE_BYTES, lengths), size)
    others = ~np.isin(runs.starts // PIECE_BYTES, many)
    starts = np.concatenate([runs.starts[others], whole.starts])
    stops = np.concatenate([runs.stops[others], whole.stops])
    order = np.argsort(starts)
    return cut(left, whole), Runs(starts[order], stops[order])


def cut(rows: Rows, runs: Runs) -> Rows:
    """Return what is left of a volume's rows outside of runs."""
    if not rows.size or not runs.starts.size:
        return rows
    starts = rows["offset"].astype(np.int64)
    stops = starts + rows["length"]
    first = np.searchsorted(runs.stops, starts, "right")
    last = np.searchsorted(runs.starts, stops, "left")
    # A row that k runs touch falls into k + 1 parts, some of them empty.
    parts = np.maximum(last - first, 0) + 1
    row = np.repeat(np.arange(rows.size), parts)
    part = np.arange(row.size) - np.repeat(np.cumsum(parts) - parts, parts)
    run = first[row] + part
    begins = np.where(part == 0, starts[row], runs.stops[np.maximum(run - 1, 0)])
    ends = np.where(
        part == parts[row] - 1, stops[row], runs.starts[np.minimum(run, runs.starts.size - 1)]
    )
    some = begins < ends
    row, begins, ends = row[some], begins[some], ends[some]
    left: Rows = rows[row]
    left["skip"] += (begins - starts[row]).astype(np.uint32)
    left["offset"] = begins
    left["length"] = ends - begins
    return left


def _rounded(ranges: Pair, step: int, size: int) -> Runs:
    """Return ranges rounded out to multiples of `step`, united, cut at multiples of 64 KiB."""
    offsets, lengths = (np.asarray(column).astype(np.int64) for column in ranges)
    some = lengths > 0
    starts = offsets[some] // step * step
    stops = np.minimum(-(-(offsets[some] + lengths[some]) // step) * step, size)
    starts, lengths = united((starts, stops - starts))
    stops = starts + lengths
    first = starts // PIECE_BYTES
    pieces = (stops - 1) // PIECE_BYTES - first + 1
    owner = np.repeat(np.arange(starts.size), pieces)
    piece = first[owner] + np.arange(owner.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return Runs(
        np.maximum(starts[owner], piece * PIECE_BYTES),
        np.minimum(stops[owner], (piece + 1) * PIECE_BYTES),
    )
