"""What the journal of an ext file system holds and has not put into place: laid over it, unwritten.

Mounting such a file system would write it into place first. The format is JBD2's, big-endian: from
`start` on, transactions in a ring, each of descriptor blocks with the blocks that they name behind
them, revoke blocks, and last a commit block. Without that a transaction does not count.

References
----------
Linux, Documentation/filesystems/ext4/journal.rst
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from jrnl.errors import FormatError

_MAGIC: Final = 0xC03B3998
_HEADER: Final = struct.Struct(">III")  # magic, type, sequence
_SUPER: Final = struct.Struct(">12xIIIII4x4xI")  # block size, length, first, sequence, start, ...
_SUPER_BYTES: Final = 1024
_UUID: Final = slice(48, 64)
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_REVOKES, _WIDE, _ASYNC, _SUMS_2, _SUMS_3 = 1, 2, 4, 8, 16  # features; of others nothing is known
_BLOCKS: Final = range(1024, 65537)

Sum = Callable[[int, bytes], int]


class _Tag(NamedTuple):
    """A block that a descriptor names."""

    block: int
    flags: int
    sum: int
    place: int  # where its content is, a block of the journal


class Journal:
    """The journal of a file system.

    Parameters
    ----------
    file : file
        Its content.
    crc32c : callable
        ``crc32c(value, data)``, without the first and last inversion.

    Raises
    ------
    FormatError
        It is not one, or has features that are not known here.
    """

    def __init__(self, file: BinaryIO, crc32c: Sum) -> None:
        self._file, self._crc32c = file, crc32c
        head = file.read(_SUPER_BYTES)
        if len(head) < _SUPER_BYTES or _HEADER.unpack_from(head)[0] != _MAGIC:
            raise FormatError("the file system's journal does not begin as one")
        found: tuple[int, ...] = _SUPER.unpack_from(head)
        self.block_size, self._length, self._first, self._sequence, self._start, features = found
        if features & ~(_REVOKES | _WIDE | _ASYNC | _SUMS_2 | _SUMS_3):
            raise FormatError(f"the file system's journal has unknown features, {features:#x}")
        placed = self.block_size in _BLOCKS and 0 < self._first <= self._start < self._length
        if self._start and not placed:
            raise FormatError("the file system's journal does not say where it begins")
        self._wide, self._summed_3 = bool(features & _WIDE), bool(features & _SUMS_3)
        self._summed = bool(features & (_SUMS_2 | _SUMS_3))
        self._seed = crc32c(0xFFFFFFFF, head[_UUID]) if self._summed else 0

    def blocks(self) -> dict[int, tuple[int, bool]]:
        """Return what is to be put into place.

        For each block of the file system the block of the journal that has its content, and whether
        its first four bytes are the journal's magic, which is left out there.
        """
        found: dict[int, tuple[int, bool, int]] = {}
        revoked: dict[int, int] = {}
        for sequence, tags, revokes in self._transactions():
            for tag in tags:
                found[tag.block] = tag.place, bool(tag.flags & _ESCAPED), sequence
            revoked |= dict.fromkeys(revokes, sequence)
        return {
            block: (place, escaped)
            for block, (place, escaped, sequence) in found.items()
            if revoked.get(block, -1) < sequence
        }

    def read(self, place: int, *, escaped: bool) -> bytes:
        """Return a block of the journal as it belongs into place."""
        content = self._read(place)
        return _MAGIC.to_bytes(4, "big") + content[4:] if escaped else content

    def _read(self, place: int) -> bytes:
        self._file.seek(place * self.block_size)
        content = self._file.read(self.block_size)
        if len(content) < self.block_size:
            raise FormatError("the file system's journal is longer than its file")
        return content

    def _transactions(self) -> Iterator[tuple[int, list[_Tag], list[int]]]:
        """Yield those that were committed: sequence, blocks, and blocks that were revoked."""
        place, sequence = self._start, self._sequence
        tags: list[_Tag] = []
        revokes: list[int] = []
        for _ in range(self._length if self._start else 0):  # no more blocks than there are
            block = self._read(place)
            magic, kind, number = _HEADER.unpack_from(block)
            if magic != _MAGIC or number != sequence or not self._sum_fits(block, kind):
                return
            place = self._after(place)
            if kind == _DESCRIPTOR:
                named = self._tags(block, place)
                if not all(self._tag_fits(tag, sequence) for tag in named):
                    return  # it has not reached the disk
                tags += named
                place = self._after(place, len(named))
            elif kind == _REVOKE:
                revokes += self._revoked(block)
            elif kind == _COMMIT:
                yield sequence, tags, revokes
                tags, revokes = [], []
                sequence = sequence + 1 & 0xFFFFFFFF
            else:
                return

    def _after(self, place: int, count: int = 1) -> int:
        """Return the place so many blocks further on in the ring."""
        return (place - self._first + count) % (self._length - self._first) + self._first

    def _tags(self, block: bytes, place: int) -> list[_Tag]:
        """Return what a descriptor block names; `place` is where the first one's content is."""
        found: list[_Tag] = []
        at, end = _HEADER.size, len(block) - (4 if self._summed else 0)
        size = 16 if self._summed_3 else 8 + 4 * self._wide + 2 * self._summed
        while at + size <= end:
            if self._summed_3:
                low, flags, high, told = struct.unpack_from(">IIII", block, at)
            else:
                low, told, flags = struct.unpack_from(">IHH", block, at)
                high = struct.unpack_from(">I", block, at + 8)[0] if self._wide else 0
            number = low | (high << 32 if self._wide else 0)
            found.append(_Tag(number, flags, told, self._after(place, len(found))))
            at += size + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST:
                break
        return found

    def _revoked(self, block: bytes) -> list[int]:
        (used,) = struct.unpack_from(">I", block, 12)
        size = 8 if self._wide else 4
        count = max(0, min(used, len(block) - (4 if self._summed else 0)) - 16) // size
        return list(struct.unpack_from(f">{count}{'Q' if self._wide else 'I'}", block, 16))

    def _sum_fits(self, block: bytes, kind: int) -> bool:
        """Whether a block of the journal's own is what was written."""
        if not self._summed:
            return True
        at = 16 if kind == _COMMIT else len(block) - 4  # its own place counts as zeroes
        (told,) = struct.unpack_from(">I", block, at)
        blank = block[:at] + bytes(4) + block[at + 4 :]
        return bool(told == self._crc32c(self._seed, blank))

    def _tag_fits(self, tag: _Tag, sequence: int) -> bool:
        if not self._summed:
            return True
        value = self._crc32c(self._seed, sequence.to_bytes(4, "big"))
        value = self._crc32c(value, self._read(tag.place))
        return tag.sum == (value if self._summed_3 else value & 0xFFFF)


class Overlaid(io.RawIOBase):
    """A file system's file with what its journal holds in place.

    Parameters
    ----------
    file : file
        The file system, as it is.
    journal : Journal
        It may be read through the same file: who reads seeks before.
    """

    def __init__(self, file: Any, journal: Journal) -> None:
        super().__init__()
        self._file, self._journal = file, journal
        self._blocks = journal.blocks()
        self._position = 0

    @property
    def block_count(self) -> int:
        """How many blocks it shows as the journal has them."""
        return len(self._blocks)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        if whence == io.SEEK_CUR:
            offset += self._position
        self._position = self._file.seek(offset, io.SEEK_END if whence == io.SEEK_END else 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to as many bytes as `buffer` takes; return how many, 0 at the end."""
        target, start, size = memoryview(buffer).cast("B"), self._position, self._journal.block_size
        self._file.seek(start)
        count = int(self._file.readinto(target))
        stop = start + count
        for block in range(start // size, -(-stop // size)):
            if block in self._blocks:
                place, escaped = self._blocks[block]
                content = self._journal.read(place, escaped=escaped)
                at = block * size
                low, high = max(start, at), min(stop, at + size)
                target[low - start : high - start] = content[low - at : high - at]
        self._position = stop
        return count
