"""Which entry wrote a byte last, at a state: told from the rows of segments, without their data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl._core import FORMAT
from jrnl.archive.segment import SEGMENT_ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    Rows = NDArray[np.void]
    Numbers = NDArray[np.int64]

_WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH, _REWIND = FORMAT["kinds"].values()
ZERO = -1  # the segment of what was zeroed or discarded


class Written(NamedTuple):
    """What entries wrote last in one volume, in ranges that rise and do not overlap.

    Attributes
    ----------
    starts, stops : ndarray
        int64[n], bytes of the volume.
    segments : ndarray
        int64[n], which segment has it; `ZERO`: it reads as zeroes.
    places : ndarray
        int64[n], where it begins in what is kept of that segment: see `Kept`.
    """

    starts: Numbers
    stops: Numbers
    segments: Numbers
    places: Numbers

    def over(self, start: int, stop: int) -> slice:
        """Return which of the ranges touch the bytes from `start` up to `stop`."""
        first = int(np.searchsorted(self.stops, start, "right"))
        return slice(first, max(first, int(np.searchsorted(self.starts, stop, "left"))))


class Kept(NamedTuple):
    """The parts of one segment's data that no later entry has overwritten, in their order.

    Attributes
    ----------
    positions, lengths : ndarray
        int64[n], where each one begins in the segment's data, and how long it is.
    """

    positions: Numbers
    lengths: Numbers

    def of(self, data: memoryview) -> bytes:
        """Return these parts of a segment's data, one after the other."""
        pairs = zip(self.positions.tolist(), self.lengths.tolist(), strict=True)
        return b"".join([data[start : start + length] for start, length in pairs])


class Latest(NamedTuple):
    """What segments wrote last: for each volume where, and for each segment what."""

    volumes: list[Written]
    kept: list[Kept]


def latest(parts: Sequence[Rows], upto: int, volume_count: int) -> Latest:
    """Return what rows have written last at state `upto`.

    Parameters
    ----------
    parts : sequence of ndarray
        The rows of each segment of a chain, SEGMENT_ROW[n]; seqs rise through all of them.
    upto : int
        The state. Later rows are left out, and so are those that a rewind before it has dropped.
    volume_count : int
    """
    rows = np.concatenate([np.empty(0, SEGMENT_ROW), *parts])
    segments = np.repeat(np.arange(len(parts)), [each.size for each in parts])
    count = int(np.searchsorted(rows["seq"], np.uint64(upto), "right"))
    rows, segments = rows[:count], segments[:count]
    wanted = live(rows) & (rows["kind"] <= _ZEROES)
    rows, segments = rows[wanted], segments[wanted]
    segments[rows["kind"] != _WRITE] = ZERO
    found = [_of_volume(rows, segments, volume) for volume in range(volume_count)]
    return _placed(found, len(parts))


def live(rows: Rows) -> NDArray[np.bool_]:
    """Return which of these rows, rising by seq, no later one of them has dropped: a rewind."""
    kept = np.ones(rows.size, np.bool_)
    rewinds = np.flatnonzero(rows["kind"] == _REWIND)
    # Not by what it was asked for: that may be a rewind that it replaced, and that is nowhere.
    firsts = np.searchsorted(rows["seq"], rows["position"][rewinds], "right")
    end = rows.size
    for place, first in zip(reversed(rewinds.tolist()), reversed(firsts.tolist()), strict=True):
        if place < end:  # else a later rewind has dropped this one
            kept[first:place] = False
            end = first
    return kept


def last_cover(starts: Numbers, stops: Numbers) -> tuple[Numbers, Numbers]:
    """Return which range is the last to cover each place.

    Parameters
    ----------
    starts, stops : ndarray
        int64[n], ranges that are not empty, in any order and overlapping.

    Returns
    -------
    edges : ndarray
        int64[m + 1], where ranges begin or end, rising.
    last : ndarray
        int64[m], the greatest index of a range that covers the bytes between two edges; -1: none.

    Notes
    -----
    A range is the union of two, of a power of two many places each. From the longest of these to
    the shortest each is handed to its two halves, so it takes n log n steps, none of them Python's.
    """
    edges = np.unique(np.concatenate([starts, stops]))
    first, end = np.searchsorted(edges, starts), np.searchsorted(edges, stops)
    last = np.full(max(edges.size - 1, 0), -1, np.int64)
    if not starts.size:
        return edges, last
    level = np.frexp((end - first).astype(np.float64))[1] - 1
    for power in range(int(level.max()), -1, -1):
        here = np.flatnonzero(level == power)
        np.maximum.at(last, first[here], here)
        np.maximum.at(last, end[here] - (1 << power), here)
        if power:
            half = 1 << (power - 1)
            before = last.copy()
            np.maximum(last[half:], before[:-half], out=last[half:])
    return edges, last


class _Found(NamedTuple):
    starts: Numbers
    stops: Numbers
    segments: Numbers
    positions: Numbers  # in the segment's data


def _of_volume(rows: Rows, segments: Numbers, volume: int) -> _Found:
    mine = np.flatnonzero(rows["volume"] == volume)
    offsets = rows["offset"][mine].astype(np.int64)
    edges, last = last_cover(offsets, offsets + rows["length"][mine].astype(np.int64))
    begins = np.flatnonzero(np.diff(last, prepend=-2))
    begins = begins[last[begins] >= 0]
    winners = last[begins]
    # A run ends where the next one begins, or at what nothing covers.
    changes = np.append(np.flatnonzero(np.diff(last)) + 1, last.size)
    ends = changes[np.searchsorted(changes, begins, "right")] if last.size else begins
    starts, row = edges[begins], mine[winners]
    inside = starts - offsets[winners]
    positions = rows["position"][row].astype(np.int64) + inside
    return _Found(starts, edges[ends], segments[row], positions)


def _placed(found: list[_Found], count: int) -> Latest:
    """Say where in what is kept of its segment each range begins."""
    segments, positions, lengths = (
        np.concatenate(columns)
        for columns in (
            [each.segments for each in found],
            [each.positions for each in found],
            [each.stops - each.starts for each in found],
        )
    )
    order = np.lexsort((positions, segments))
    bounds = np.searchsorted(segments[order], np.arange(count + 1))
    places = np.zeros(segments.size, np.int64)
    kept = []
    for first, end in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        chosen = order[first:end]
        sizes = lengths[chosen]
        places[chosen] = np.cumsum(sizes) - sizes
        kept.append(Kept(positions[chosen], sizes))
    cuts = np.cumsum([each.starts.size for each in found])[:-1]
    return Latest(
        [
            Written(each.starts, each.stops, each.segments, mine)
            for each, mine in zip(found, np.split(places, cuts), strict=True)
        ],
        kept,
    )
