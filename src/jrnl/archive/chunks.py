"""A state as chunks: what of it is new is hashed, packed and put, the rest is named again."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jrnl.archive.packs import PackWriter, packed_or_plain
from jrnl.archive.runs import Runs, changed, whole_pieces
from jrnl.archive.table import (
    CHUNK,
    PACK_MOST,
    PIECE_BYTES,
    ROW,
    TABLE_MOST,
    Pack,
    Table,
    check_pack,
    hash_of,
    read_chunk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jrnl.archive.table import Chunks, Rows
    from jrnl.compare import Extents, Pair
    from jrnl.state import State

    Progress = Callable[[int, int], object]
    Found = list[tuple[bytes, bytes | memoryview | None]]  # hash; how stored, None where known

BATCH_BYTES = 4 << 20  # read at a time, with the gaps between runs
GAP_BYTES = 16 << 10  # a shorter gap is read through: it costs less than another call
READ_BYTES = 256 << 10  # by one call, during which the store may be locked
TASK_BYTES = 1 << 20  # hashed and packed by a thread at a time
BATCHES_AT_ONCE = 3

_ZERO, _NEW = -1, -2


def build(
    previous: Table | None,
    dirty: Extents | None,
    state: State,
    packs: PackWriter,
    cancelled: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> Table:
    """Return the table of a state; put the chunks that the one before does not have.

    It takes about 24 MiB of memory, what `packs` does, and some 200 bytes for each chunk of the
    tables.

    Parameters
    ----------
    previous : Table, optional
        Of an earlier state of the same volumes, whose packs are all still there.
    dirty : ndarray, optional
        Structured: volume (its index), offset and length (bytes), in any order, of all that may
        differ from `previous`. None: look at all that may hold anything.
    state : State
    packs : PackWriter
        Is finished then.
    cancelled : callable, optional
        Whether to give up; asked now and then.
    progress : callable, optional
        Gets the bytes that were looked at, and all that will be. What it raises ends the call.

    Raises
    ------
    Cancelled
    ArchiveError, and what reading the state raises.
    """
    old = previous or Table(np.empty(0, ROW), np.empty(0, CHUNK), ())
    kept: list[Rows] = []
    plans: dict[int, Runs] = {}
    for index in sorted(state._indices.values()):
        size = state._size(index)
        if previous is None or dirty is None:
            plans[index] = whole_pieces(_pair(state._data_extents(index)), size)
        else:
            some = dirty[dirty["volume"] == index]
            rows, plans[index] = changed(_rows_of(old, index), _pair(some), size)
            kept.append(rows)

    def tell(done: int, total: int) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled
        if progress is not None:
            progress(done, total)

    sender = _Sender(old, packs)
    try:
        fresh = sender.send(state, plans, tell)
        new_chunks, new_packs = packs.finish()
    finally:
        sender.close()
        packs.close()
    rows = np.concatenate([*kept, fresh])
    rows = rows[np.lexsort((rows["offset"], rows["volume"]))]
    return _joined(rows, old, new_chunks, new_packs)


class Cancelled(Exception):
    """A state was not turned into chunks to the end, as was asked for."""


def _pair(extents: Extents) -> Pair:
    return extents["offset"].astype(np.int64), extents["length"].astype(np.int64)


def _rows_of(table: Table, volume: int) -> Rows:
    first, last = np.searchsorted(table.rows["volume"], (volume, volume + 1))
    return table.rows[first:last]


def _joined(rows: Rows, old: Table, new_chunks: Chunks, new_packs: list[Pack]) -> Table:
    """Return a table of rows whose chunks are the old ones, then the new ones: those in use."""
    new_chunks["pack"] += len(old.packs)
    chunks = np.concatenate([old.chunks, new_chunks])
    packs = [*old.packs, *new_packs]
    used, rows["chunk"] = np.unique(rows["chunk"], return_inverse=True)
    chunks = chunks[used]
    named, chunks["pack"] = np.unique(chunks["pack"], return_inverse=True)
    return Table(rows, chunks, [packs[k] for k in named.tolist()])


class _Known:
    """The chunks of a table by their hash."""

    def __init__(self, chunks: Chunks) -> None:
        self._hashes = np.ascontiguousarray(chunks["hash"])
        self._lengths = np.ascontiguousarray(chunks["length"])
        first = self._hashes.view(np.uint64)[:, 0] if chunks.size else np.empty(0, np.uint64)
        self._order = np.argsort(first, kind="stable")
        self._first = first[self._order]

    def find(self, hashes: list[bytes], lengths: list[int]) -> list[int]:
        """Return for each hash the index of its chunk, or _NEW."""
        if not self._first.size:
            return [_NEW] * len(hashes)
        wanted = np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1)
        place = np.searchsorted(self._first, wanted.view(np.uint64)[:, 0])
        index = self._order[np.minimum(place, self._first.size - 1)]
        same = (self._hashes[index] == wanted).all(axis=1) & (self._lengths[index] == lengths)
        found: list[int] = np.where(same, index, _NEW).tolist()
        return found


class _Batch:
    """Runs of one volume that lie in one buffer, and what is found in them."""

    def __init__(self, first: int, views: list[memoryview], buffer: NDArray[np.uint8]) -> None:
        self.first, self.views, self.buffer = first, views, buffer
        self.tasks: list[Future[list[tuple[int, bytes, bytes | memoryview]]]] = []


class _Sender:
    """Reads runs, has threads hash and pack them, and hands on what is new, in order."""

    def __init__(self, old: Table, packs: PackWriter) -> None:
        self._known = _Known(old.chunks)
        self._first_new = old.chunks.size
        self._packs = packs
        threads = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(threads, "jrnl-archive-pack")
        self._spare: list[NDArray[np.uint8]] = []

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def send(self, state: State, plans: Mapping[int, Runs], progress: Progress) -> Rows:
        """Return the rows of all runs that are not zero."""
        total = sum(int((runs.stops - runs.starts).sum()) for runs in plans.values())
        done = 0
        found = []
        for index, runs in plans.items():
            chunk = np.full(runs.starts.size, _ZERO, np.int64)
            going: deque[_Batch] = deque()
            for first, last in _batches(runs):
                going.append(self._begin(state, index, runs, first, last))
                if len(going) >= BATCHES_AT_ONCE:
                    done += self._end(going.popleft(), chunk)
                    progress(done, total)
            while going:
                done += self._end(going.popleft(), chunk)
                progress(done, total)
            found.append(_rows(index, runs, chunk))
        return np.concatenate(found) if found else np.empty(0, ROW)

    def _begin(self, state: State, index: int, runs: Runs, first: int, last: int) -> _Batch:
        buffer = self._spare.pop() if self._spare else np.empty(BATCH_BYTES, np.uint8)
        content = buffer.data
        starts, stops = runs.starts[first:last].tolist(), runs.stops[first:last].tolist()
        origin = starts[0]
        for start, stop in _reads(starts, stops):
            state._readinto(index, start, content[start - origin : stop - origin])
        views = [
            content[start - origin : stop - origin]
            for start, stop in zip(starts, stops, strict=True)
        ]
        batch = _Batch(first, views, buffer)
        for some in _shares(views):
            batch.tasks.append(self._pool.submit(self._look, some))
        return batch

    def _look(self, views: list[memoryview]) -> list[tuple[int, bytes, bytes | memoryview]]:
        """Return for each run its chunk where it is known, else its hash and how it is stored."""
        hashes = [hash_of(view) for view in views]
        lengths = [len(view) for view in views]
        known = self._known.find(hashes, lengths)
        found: list[tuple[int, bytes, bytes | memoryview]] = []
        for view, digest, index in zip(views, hashes, known, strict=True):
            if digest == _hash_of_zeroes(len(view)):
                found.append((_ZERO, b"", b""))
            elif index != _NEW:
                found.append((index, b"", b""))
            else:
                found.append((_NEW, digest, packed_or_plain(view)))
        return found

    def _end(self, batch: _Batch, chunk: NDArray[np.int64]) -> int:
        """Note what a batch's runs are, hand on those that are new; return its bytes."""
        place = batch.first
        for task in batch.tasks:
            for index, digest, stored in task.result():
                if index == _NEW:
                    length = len(batch.views[place - batch.first])
                    new = self._packs.add_packed(digest, stored, length)
                    chunk[place] = self._first_new + new
                else:
                    chunk[place] = index
                place += 1
        self._spare.append(batch.buffer)
        return sum(map(len, batch.views))


@lru_cache(64)
def _hash_of_zeroes(length: int) -> bytes:
    return hash_of(bytes(length))


def _rows(index: int, runs: Runs, chunk: NDArray[np.int64]) -> Rows:
    some = chunk != _ZERO
    rows = np.zeros(int(some.sum()), ROW)
    rows["volume"], rows["offset"] = index, runs.starts[some]
    rows["length"], rows["chunk"] = (runs.stops - runs.starts)[some], chunk[some]
    return rows


def _batches(runs: Runs) -> Iterator[tuple[int, int]]:
    """Yield which runs are read into one buffer: the first, and the one after the last."""
    first = 0
    while first < runs.starts.size:
        limit = runs.starts[first] + BATCH_BYTES
        last = int(np.searchsorted(runs.stops, limit, "right"))
        yield first, last
        first = last


def _reads(starts: list[int], stops: list[int]) -> Iterator[tuple[int, int]]:
    """Yield what is read by one call each: runs, and short gaps between them."""
    begin, end = starts[0], stops[0]
    for start, stop in zip(starts[1:], stops[1:], strict=True):
        if start - end > GAP_BYTES or stop - begin > READ_BYTES:
            yield begin, end
            begin = start
        end = stop
    yield begin, end


def _shares(views: list[memoryview]) -> Iterator[list[memoryview]]:
    """Yield runs in shares of about TASK_BYTES."""
    share: list[memoryview] = []
    size = 0
    for view in views:
        share.append(view)
        size += len(view)
        if size >= TASK_BYTES:
            yield share
            share, size = [], 0
    if share:
        yield share


__all__ = [
    "CHUNK",
    "PACK_MOST",
    "PIECE_BYTES",
    "ROW",
    "TABLE_MOST",
    "Cancelled",
    "Pack",
    "PackWriter",
    "Table",
    "build",
    "check_pack",
    "read_chunk",
]
