"""A volume or an image as a raw file object, for whatever takes one."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from jrnl._core import FlatBuffer
from jrnl.errors import (
    InvalidArgument,
    JournalFull,
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


class VolumeFile(io.RawIOBase):
    """A raw, seekable, unbuffered file of fixed size over one volume or image.

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
        self._write_max = write_max
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Whether it takes writes."""
        return self._write is not None

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; past the end is allowed, before the start is not.

        Raises InvalidType, InvalidArgument, StoreClosed.
        """
        self._check_open()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if start is None:
            raise InvalidArgument(f"whence must be 0, 1 or 2, not {whence}")
        position = start + as_int(offset, "the position to seek to must be an int (bytes)")
        if position < 0:
            raise InvalidArgument(f"cannot seek to {shown(position)}, before the start")
        self._position = position
        return self._position

    def readinto(self, buffer: Writable) -> int:
        """Read up to as many bytes as `buffer` takes; return how many, 0 at the end.

        Raises InvalidType, InvalidArgument, StoreClosed.
        """
        view = memoryview(FlatBuffer(buffer, True))
        self._check_open()
        count = max(0, min(len(view), self._size - self._position))
        if count:
            self._read(self._position, view[:count])
            self._position += count
        return count

    def write(self, data: Readable) -> int:
        """Write `data`, in as few entries as it takes; return how many bytes were written.

        That is all of it, but where the volume ends before, as a device does, or where the journal
        has room for some of the entries only.

        Raises
        ------
        OSError
            ENOSPC: the position is at the volume's end or past it, and its size is fixed.
        JournalFull
            No room is left for the first entry; see `Volume.write`.
        ReadOnlyStore, InvalidType, InvalidArgument, StoreClosed
        """
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
        for start in range(0, len(view), self._write_max):
            piece = view[start : start + self._write_max]
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

    def flush(self) -> None:
        """Flush the store, where it takes writes."""
        super().flush()
        if self._flush is not None and not self.closed:
            self._flush()

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosed("the file is closed; as_file() gives another")
