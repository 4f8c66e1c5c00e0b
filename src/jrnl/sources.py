"""Sources: files whose content is a volume's state 0."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from jrnl._core import FileDevice
from jrnl.errors import InvalidArgument, InvalidType, naming

if TYPE_CHECKING:
    from jrnl._core import CallbackDevice, Engine

Path = str | os.PathLike[str]

_PIECE_BYTES = 1 << 20
_FICLONE = 0x40049409  # ioctl, linux/fs.h


def file_size(path: Path) -> int:
    """Return the size of a file or a block device in bytes.

    Raises
    ------
    InvalidType
        Not a path: an int would be taken for a descriptor, and closed.
    InvalidArgument
        Neither file nor block device, such as a pipe, which would keep us waiting; or empty.
    OSError
        It cannot be opened.
    """
    try:
        name = os.fspath(path)
    except TypeError as error:
        raise InvalidType(f"a source must be a path, not {type(path).__name__}") from error
    mode = os.stat(name).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode)):
        raise InvalidArgument(f"{name!r} is neither a file nor a block device")
    with open(name, "rb") as file:  # says it better than we could where it is a directory
        size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise InvalidArgument(f"{name!r} is empty; a volume has at least one byte")
    return size


def load(engine: Engine, index: int, path: Path) -> None:
    """Read a source into a volume, skipping its holes."""
    target = memoryview(engine.devices[index])
    with open(path, "rb", buffering=0) as file:
        for start, stop in _data_extents(file.fileno(), len(target)):
            position = file.seek(start)
            while position < stop:
                with naming(lambda: os.fsdecode(path)):
                    count = file.readinto(target[position : min(stop, position + _PIECE_BYTES)])
                if not count:  # it has shrunk since it was measured
                    return
                engine.mark_written(index, position, count)
                position += count


def _data_extents(descriptor: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a file that are not holes; all of it where that cannot be told."""
    stop = 0
    while stop < limit:
        try:
            start = os.lseek(descriptor, stop, os.SEEK_DATA)
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            start, stop = stop, limit  # a file system, or a device, that cannot tell
        yield start, min(stop, limit)


def fill(device: FileDevice | CallbackDevice, path: Path) -> None:
    """Copy a source into a new volume's file, skipping its holes."""
    buffer = bytearray(_PIECE_BYTES)
    with open(path, "rb", buffering=0) as file:
        if isinstance(device, FileDevice) and _clone(device, file.fileno()):
            return
        for start, stop in _data_extents(file.fileno(), device.size):
            position = file.seek(start)
            while position < stop:
                with naming(lambda: os.fsdecode(path)):
                    count = file.readinto(memoryview(buffer)[: stop - position])
                if not count:  # it has shrunk since it was measured
                    return
                device.pwrite(position, memoryview(buffer)[:count])
                position += count


def _clone(device: FileDevice, source: int) -> bool:
    """Share the blocks of a descriptor's file, where the file system can."""
    size = device.size
    try:
        fcntl.ioctl(device.fileno(), _FICLONE, source)
    except OSError:
        return False
    device.truncate(size)
    return True


def cloned(
    engine: Engine,
    files: Mapping[int, FileDevice | CallbackDevice],
    write_back: Callable[[], object] | None,
) -> bool:
    """Have new files share the blocks of the volumes' files, by index; False where none can.

    Whether that can be done is seen before ``write_back()`` brings the volumes' files up to date;
    None: they are.
    """
    for turn in range(1 if write_back is None else 2):
        for index, device in files.items():
            own = engine.devices[index]
            if not (isinstance(device, FileDevice) and isinstance(own, FileDevice)):
                return False
            if not _clone(device, own.fileno()):
                return False
        if write_back is not None and turn == 0:
            write_back()
    return True
