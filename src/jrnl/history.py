"""History: where two states differ, who wrote a range, and what a phase of writing cost.

All of it comes from the journal's headers, in one pass, as far as they can tell. Images are read
only where the answer has to be exact, or where headers are gone or damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jrnl._core import compare_images, entries_over, tally, written_ranges
from jrnl.compare import EXTENT, addresses, blocks_between, extents_of
from jrnl.errors import CorruptionError, InvalidArgument

if TYPE_CHECKING:
    from jrnl._core import Engine, Image

    Extents = NDArray[np.void]
    Ranges = tuple[NDArray[np.uint64], NDArray[np.uint64]]

__all__ = ["EXTENT", "State", "Stats", "diff", "history", "stats", "union"]
_WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH, _REWIND = range(1, 7)


class Stats(NamedTuple):
    """What was written in a phase, and what that took; ``store.stats(since, until, volume)``.

    Attributes
    ----------
    since, until : int
        The states between which it counts.
    entries : int
        Journal entries, of all kinds.
    writes, discards, zeroes, flushes, marks, rewinds : int
        ... of each kind. A write of many blocks is as many, an edit is one, a restore is as many
        as it wrote ranges, a long discard as many as it was cut into. Flushes, marks and rewinds
        are the whole store's, and no one volume's.
    bytes : int
        Bytes written by writes.
    distinct_bytes : int
        Bytes of the volumes that these writes covered, each counted once.
    rewritten_bytes : int
        The others: ``bytes - distinct_bytes``.
    discarded_bytes, zeroed_bytes : int
        Bytes of the ranges that were discarded, or zeroed.
    journal_bytes : int
        What the entries take in the journal, headers and images. On disk, but of one volume alone:
        the length of the log from the first of these entries on to the first one after them, with
        all that lies between.
    write_amplification : float
        The engine's own, ``(journal_bytes + bytes) / bytes``: what jrnl writes, to its journal and
        to the volumes, for each byte that its user wrote. 0.0 where nothing was written. What a
        user's program writes for each byte of *its* users is not in it, nor what a file system or
        a drive makes of it. On disk it is the most that it can be: a sector that is overwritten
        before it has reached the volume's file is written there once.
    seconds : float
        From the time of state `since` to that of state `until`.
    evictions : int
        Entries that have left the journal for want of room since the store was made or opened,
        whatever the phase.
    used, capacity : int
        Bytes of the journal now, whatever the phase.
    occupancy : float
        ``used / capacity``.
    """

    since: int
    until: int
    entries: int
    writes: int
    bytes: int
    distinct_bytes: int
    rewritten_bytes: int
    discards: int
    discarded_bytes: int
    zeroes: int
    zeroed_bytes: int
    flushes: int
    marks: int
    rewinds: int
    journal_bytes: int
    write_amplification: float
    seconds: float
    evictions: int
    used: int
    capacity: int
    occupancy: float


class State(NamedTuple):
    """One of the two states that `diff` compares."""

    seq: int | None  # as the journal counts now; None where only a snapshot holds the state
    image: Callable[[], Image]  # makes one, which holds until the next write


def diff(engine: Engine, states: tuple[State, State], volume: int | None, exact: bool) -> Extents:
    """Return where two states differ; see `Store.diff`. The caller holds the lock."""
    one, other = states
    bases = addresses(engine)
    ranges = None
    if one.seq is not None and other.seq is not None:
        low, high = sorted((one.seq, other.seq))
        try:
            starts, stops = written_ranges(engine, low, high, bases)
        except CorruptionError:  # a damaged header: the states may still be had another way
            pass
        else:
            ranges = _within(volume, bases, *union(starts, stops))
            if not exact:
                return _extents(bases, *ranges)
    return _compared(engine, one.image(), other.image(), volume, ranges)


def history(engine: Engine, offset: int, length: int, volume: int) -> NDArray[np.void]:
    """Return the entries that wrote in a range; see `Store.history`. The caller holds the lock."""
    return entries_over(engine, offset, length, volume)


def stats(engine: Engine, since: int, until: int, volume: int | None = None) -> Stats:
    """Count the entries between two states; see `Store.stats`. The caller holds the lock."""
    if since > until:
        raise InvalidArgument(f"since={since} is later than until={until}; exchange them")
    counts, sizes, journal_bytes, span_ns, evictions = tally(engine, since, until, volume)
    bases = addresses(engine)
    ranges = union(*written_ranges(engine, since, until, bases, True))
    starts, stops = _within(volume, bases, *ranges)
    written = sizes[_WRITE]
    distinct = int((stops - starts).sum())
    return Stats(
        since=since,
        until=until,
        entries=sum(counts),
        writes=counts[_WRITE],
        bytes=written,
        distinct_bytes=distinct,
        rewritten_bytes=written - distinct,
        discards=counts[_DISCARD],
        discarded_bytes=sizes[_DISCARD],
        zeroes=counts[_ZEROES],
        zeroed_bytes=sizes[_ZEROES],
        flushes=counts[_FLUSH],
        marks=counts[_MARK],
        rewinds=counts[_REWIND],
        journal_bytes=journal_bytes,
        write_amplification=(journal_bytes + written) / written if written else 0.0,
        seconds=span_ns / 1e9,
        evictions=evictions,
        used=engine.used,
        capacity=engine.capacity,
        occupancy=engine.used / engine.capacity,
    )


def union(starts: NDArray[np.uint64], stops: NDArray[np.uint64]) -> Ranges:
    """Return the same addresses as ranges that rise and are apart. Sorts both arrays in place."""
    if not starts.size:
        return starts, stops
    starts.sort()
    stops.sort()
    # The k-th to begin begins a new range where the k that began before it have all ended.
    begins = np.flatnonzero(starts[1:] > stops[:-1]) + 1
    return (
        np.concatenate([starts[:1], starts[begins]]),
        np.concatenate([stops[begins - 1], stops[-1:]]),
    )


def _within(
    volume: int | None,
    bases: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    stops: NDArray[np.uint64],
) -> Ranges:
    """Return the ranges of one volume, or all."""
    if volume is None:
        return starts, stops
    first, last = np.searchsorted(starts, bases[volume : volume + 2])
    return starts[first:last], stops[first:last]


def _extents(
    bases: NDArray[np.uint64], starts: NDArray[np.uint64], stops: NDArray[np.uint64]
) -> Extents:
    extents = np.empty(starts.size, EXTENT)
    volumes = np.searchsorted(bases, starts, "right") - 1
    extents["volume"] = volumes
    extents["offset"] = starts - bases[volumes]
    extents["length"] = stops - starts
    return extents


def _compared(
    engine: Engine, one: Image, other: Image, volume: int | None, ranges: Ranges | None
) -> Extents:
    """Compare two images in the ranges given, or wherever they may differ."""
    bases = addresses(engine)
    parts = [np.empty(0, EXTENT)]
    for index in range(len(engine.sizes)) if volume is None else [volume]:
        if ranges is None:
            offsets, lengths = blocks_between(one, other, index)
        else:
            starts, stops = _within(index, bases, *ranges)
            offsets = (starts - bases[index]).astype(np.int64)
            lengths = (stops - starts).astype(np.int64)
        offsets, lengths = compare_images(one, other, index, offsets, lengths)
        parts.append(extents_of(index, offsets, lengths))
    return np.concatenate(parts)
