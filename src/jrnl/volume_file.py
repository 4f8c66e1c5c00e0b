"""A volume or an image as a raw file object, for whatever takes one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from jrnl._core import FileCalls, FlatBuffer
from jrnl.errors import (
    InvalidArgument,
    JournalFull,
    OutOfBounds,
    ReadOnlyStore,
    StoreClosed,
    shown,
)
from jrnl.sizes import as_int

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    # An array is a buffer, but for Python 3.11 numpy's types do not say so.
    Readable = ReadableBuffer | NDArray[Any]
    Writable = WriteableBuffer | NDArray[Any]
else:
    Readable = Writable = Any


class ReadsInto(Protocol):
    """What the file reads from: fill a buffer from an offset on."""

    def __call__(self, offset: int, buffer: memoryview, /) -> None:
        """Fill `buffer` from byte `offset` on."""


class VolumeFile(FileCalls, io.RawIOBase):
    """A raw, seekable, unbuffered file of fixed size over one volume or image.

    ``seek``, ``tell``, ``read``, ``readinto`` and ``write`` come straight from the compiled core.

    Parameters
    ----------
    size : int
        Bytes.
    read : callable
        ``read(offset, buffer)`` fills the buffer.
    write : callable, optional
        ``write(offset, data)``; without it the file is read-only.
    flush : callable, optional
    write_max : int
        Bytes, the longest that one call of `write` takes.
    """

    def __init__(
        self,
        size: int,
        read: ReadsInto,
        write: Callable[[int, memoryview], object] | None = None,
        flush: Callable[[], object] | None = None,
        write_max: int = 0,
    ) -> None:
        super().__init__()
        self._size = size
        self._read = read
        self._write = write
        self._flush = flush
        self._longest = 0 if write is None else write_max
        self._position = 0

    def part(self, offset: int, length: int) -> VolumeFile:
        """Return a file over a part of this one: it ends where an archive or a partition does.

        It begins with a position of its own, and is open whether or not this one is. What is
        written to it, where this one takes writes, goes to the same place.

        Raises OutOfBounds, InvalidType, StoreClosed.
        """
        self._check_open()
        start = as_int(offset, "offset must be an int (bytes)")
        count = as_int(length, "length must be an int (bytes)")
        if start < 0 or count < 0 or start + count > self._size:
            raise OutOfBounds(
                f"{shown(count)} bytes at offset {shown(start)} do not lie inside the file, which "
                f"has {self._size} bytes"
            )
        read, write = self._read, self._write

        def read_part(at: int, buffer: memoryview) -> None:
            read(start + at, buffer)

        if write is None:
            return VolumeFile(count, read_part)
        put = write

        def write_part(at: int, data: memoryview) -> None:
            put(start + at, data)

        return VolumeFile(count, read_part, write_part, self._flush, self._longest)

    def _count(self, size: object) -> int:
        """Return how many bytes there are to read of `size`, where that is below 0 of all."""
        self._check_open()
        left = max(0, self._size - self._position)
        wanted = -1 if size is None else as_int(size, "how much to read must be an int (bytes)")
        return left if wanted < 0 else min(left, wanted)

    def _seek(self, offset: object, whence: int) -> int:
        self._check_open()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if start is None:
            raise InvalidArgument(f"whence must be 0, 1 or 2, not {whence}")
        position = start + as_int(offset, "the position to seek to must be an int (bytes)")
        if position < 0:
            raise InvalidArgument(f"cannot seek to {shown(position)}, before the start")
        self._position = position
        return position

    def _read_some(self, buffer: Writable) -> int:
        """Read into any buffer what it takes, or what there is."""
        view = memoryview(FlatBuffer(buffer, True))
        self._check_open()
        count = max(0, min(len(view), self._size - self._position))
        if count:
            self._read(self._position, view[:count])
            self._position += count
        return count

    def _write_pieces(self, data: Readable) -> int:
        """Write any buffer, as far as there is room."""
        if self._write is None:
            raise ReadOnlyStore("this file shows an earlier state, which cannot be written")
        view = memoryview(FlatBuffer(data))
        self._check_open()
        if view and self._position >= self._size:
            raise OSError(
                errno.ENOSPC,
                f"{os.strerror(errno.ENOSPC)}: byte {shown(self._position)} is past the end of the "
                f"volume, which has {self._size} bytes and cannot grow",
            )
        view = view[: self._size - self._position]
        for start in range(0, len(view), self._longest):
            piece = view[start : start + self._longest]
            try:
                self._write(self._position, piece)
            except JournalFull:
                if start == 0:
                    raise
                return start
            self._position += len(piece)
        return len(view)

    def close(self) -> None:
        """Close the file. Unlike `flush` this adds no FLUSH entry: files close unasked, too."""
        self._flush = None
        super().close()
        self.closed = True

    def flush(self) -> None:
        """Flush the store, where it takes writes."""
        super().flush()
        if self._flush is not None and not self.closed:
            self._flush()

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosed("the file is closed; as_file() gives another")
