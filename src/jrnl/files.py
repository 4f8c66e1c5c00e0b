"""A volume or an image as a raw file object, for whatever takes one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Protocol

from jrnl.errors import InvalidArgument, OutOfBounds, ReadOnlyStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer, WriteableBuffer


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
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; past the end is allowed, before the start is not."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}.get(whence)
        if start is None:
            raise InvalidArgument(f"whence must be 0, 1 or 2, not {whence}")
        if start + offset < 0:
            raise InvalidArgument(f"cannot seek to {start + offset}, before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read up to len(buffer) bytes; return how many, 0 at the end."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        if count:
            self._read(self._position, view[:count])
            self._position += count
        return count

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`, in as few entries as it takes; return its length.

        Raises
        ------
        OutOfBounds
            It would end past the volume, whose size is fixed.
        ReadOnlyStore
        """
        if self._write is None:
            raise ReadOnlyStore("this file shows an earlier state, which cannot be written")
        view = memoryview(data).cast("B")
        if self._position + len(view) > self._size:
            raise OutOfBounds(
                f"{len(view)} bytes at {self._position} end past the volume's {self._size} bytes"
            )
        for start in range(0, len(view), self._write_max):
            piece = view[start : start + self._write_max]
            self._write(self._position, piece)
            self._position += len(piece)
        return len(view)

    def flush(self) -> None:
        """Flush the store, where it takes writes."""
        super().flush()
        if self._flush is not None and not self.closed:
            self._flush()
