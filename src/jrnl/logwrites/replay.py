"""Replay of a dm-log-writes log onto a volume.

The first pass looks at every header and at no data, and refuses the log before the volume has
changed; the second pass copies data in bounded pieces.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from jrnl.errors import InvalidType
from jrnl.logwrites.names import name_mark
from jrnl.logwrites.read import DISCARD, FLUSH, FUA, MARK, PIECE_BYTES, Log, open_log
from jrnl.sizes import check_callable
from jrnl.volume import Volume

_PROGRESS_ENTRIES: Final = 256


def replay(
    path: str | os.PathLike[str],
    volume: Volume,
    progress: Callable[[int, int], object] | None = None,
) -> npt.NDArray[np.uint64]:
    """Replay a dm-log-writes log onto a volume, as journaled writes.

    A write becomes one or several WRITE entries, a discard DISCARD entries, a mark a mark. A FLUSH
    flag flushes the store before the entry's data is written, FUA after it; METADATA has no effect.
    A mark's text is made a valid name: what may not stand in a name becomes ``_``, a long text is
    cut, an empty one is ``mark``, one that reads as a number or a time is put behind ``mark-``, and
    a name that is taken gets ``-2``, ``-3`` and so on.

    Parameters
    ----------
    path : str or path-like
        The log; see `read_log`, also for packed logs, stale counts and torn entries.
    volume : Volume
        The volume that it is replayed onto.
    progress : callable, optional
        Called with the number of entries done and of all entries, after every 256 entries and at
        the end. An exception from it ends the replay there: what was replayed stays, as ordinary
        writes that can be undone.

    Returns
    -------
    numpy.ndarray
        uint64, one longer than the log: item k is the store's seq after the log's first k entries,
        so item 0 is the seq before the replay.

    Raises
    ------
    FormatError
        As `read_log` does, before the volume changes. Also when the file shrinks meanwhile.
    """
    if not hasattr(volume, "_max_write"):
        raise InvalidType(f"expected a volume (store.volume), got {type(volume).__name__}")
    check_callable(progress, "progress")
    with open_log(path, volume.size) as log:
        return _apply(log, volume, progress)


def _apply(
    log: Log, volume: Volume, progress: Callable[[int, int], object] | None
) -> npt.NDArray[np.uint64]:
    total = len(log.entries)
    seqs = np.empty(total + 1, dtype=np.uint64)
    seqs[0] = volume._seq
    piece_size = min(PIECE_BYTES, volume._max_write)
    if piece_size > log.sector_size:  # whole sectors, where the ring takes a sector
        piece_size -= piece_size % log.sector_size
    buffer = memoryview(bytearray(piece_size))
    repeats: dict[str, int] = {}
    done = 0
    while True:
        batch = log.entries[done : done + _PROGRESS_ENTRIES].tolist()
        for offset, length, data, flags, _ in batch:
            if flags & FLUSH:
                volume._flush()
            if flags & DISCARD:
                if length:
                    volume.discard(offset, length)
            elif length:
                _copy(log, data, volume, offset, length, buffer)
            if flags & MARK:
                name_mark(log.mark(done) or "", repeats, volume._mark)
            if flags & FUA:
                volume._flush()
            done += 1
            seqs[done] = volume._seq
        if progress is not None:
            progress(done, total)
        if done == total:
            return seqs


def _copy(
    log: Log, data: int, volume: Volume, offset: int, length: int, buffer: memoryview
) -> None:
    """Write one entry's data to the volume, a buffer at a time."""
    done = 0
    while done < length:
        piece = buffer[: min(len(buffer), length - done)]
        log.readinto(data + done, piece)
        volume.write(offset + done, piece)
        done += len(piece)
