"""Volumes of a state written into files, sparsely."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import numpy as np

from jrnl.compare import PIECE_BYTES
from jrnl.errors import InvalidArgument, PathExists, naming
from jrnl.logwrites import LogHistory
from jrnl.pieces import runs_within
from jrnl.whole_file import whole_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from jrnl.state import StateVolume
    from jrnl.store import Store
    from jrnl.volume import Volume


def write_volume(
    volume: StateVolume | Volume,
    path: str,
    progress: Callable[[int, int], object],
    *,
    force: bool = False,
    store: str | None = None,
) -> int:
    """Write a volume into a file, durably; where it holds zeroes the file has holes.

    A new file has its name once all of it is there.

    Parameters
    ----------
    path : str
        A new file; with `force`, also one that is there, or a block device.
    progress : callable
        Called as ``progress(done, total)``, in bytes of what may hold anything but zeroes; into a
        device, of all.
    store : str, optional
        The store's folder, in which nothing is written.

    Returns
    -------
    int
        Bytes, the volume's size.

    Raises
    ------
    PathExists, OSError
    InvalidArgument
        The path leads into the store, or the device is too small.
    """
    check_outside(path, store)
    if force and os.path.lexists(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _fill(volume, descriptor, path, progress)
            with naming(lambda: path):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return volume.size
    try:
        with whole_file(path) as file:
            _fill(volume, file.fileno(), path, progress)
    except PathExists as error:
        error.strerror = "there is something there already; use another path, or --force"
        raise
    return volume.size


def check_outside(path: str | None, source: str | None) -> None:
    """Raise InvalidArgument where writing to a path would write into what is looked at.

    Parameters
    ----------
    path : str, optional
        A file or a folder that is to be written.
    source : str, optional
        The store's folder, at any depth of which nothing is written, and to none of its files by
        another name; or the file of a log.
    """
    if path is None or source is None:
        return
    real = os.path.realpath(path)
    places = [real]
    while (above := os.path.dirname(places[-1])) != places[-1]:
        places.append(above)
    if any(_is_same(place, source) for place in places):
        what = "lies in the store itself" if os.path.isdir(source) else "is what is read"
        raise InvalidArgument(f"{path!r} {what}; choose another place")
    if not os.path.isfile(real):
        return
    for folder, _, names in os.walk(source):
        if any(_is_same(real, os.path.join(folder, name)) for name in names):
            raise InvalidArgument(
                f"{path!r} is another name of a file of the store; choose another place"
            )


def source_of(history: Store | LogHistory) -> str | None:
    """Return the folder or the file that a history lies in; None for one in memory."""
    if isinstance(history, LogHistory):
        return history.name
    path = history.options.path
    return None if path is None else os.fsdecode(path)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        return False


def _fill(
    volume: StateVolume | Volume,
    descriptor: int,
    path: str,
    progress: Callable[[int, int], object],
) -> None:
    size, mode = volume.size, os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        with naming(lambda: path):
            os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, size)
        extents = volume.data_extents()
        offsets, lengths = (extents[field].astype(np.int64) for field in ("offset", "length"))
        done, total = 0, int(lengths.sum())
        for length, runs in runs_within(volume.readinto, (offsets, lengths)):
            for offset, content in runs:
                _write_all(descriptor, content, offset)
            done += length
            progress(done, total)
    elif not stat.S_ISBLK(mode):
        raise InvalidArgument(f"{path!r} is neither a file nor a block device")
    elif os.lseek(descriptor, 0, os.SEEK_END) < size:
        raise InvalidArgument(f"the device {path!r} is smaller than the volume's {size} bytes")
    else:
        _overwrite(volume, descriptor, progress)


def _overwrite(
    volume: StateVolume | Volume, descriptor: int, progress: Callable[[int, int], object]
) -> None:
    """Write all of a volume, its zeroes too."""
    content = memoryview(bytearray(PIECE_BYTES))
    for offset in range(0, volume.size, PIECE_BYTES):
        count = min(PIECE_BYTES, volume.size - offset)
        volume.readinto(offset, content[:count])
        _write_all(descriptor, content[:count], offset)
        progress(offset + count, volume.size)


def _write_all(descriptor: int, piece: memoryview, offset: int) -> None:
    while piece:
        done = os.pwrite(descriptor, piece, offset)
        piece, offset = piece[done:], offset + done
