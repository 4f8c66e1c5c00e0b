"""Logs in the dm-log-writes format: read and checked, every header and none of the data.

The format is that of the Linux device-mapper target ``log-writes``, of xfstests' ``replay-log`` and
of QEMU's ``blklogwrites`` driver. All numbers are little-endian, all places and lengths are counted
in sectors of the size that the super names:

* sector 0, the super: magic u64, version u64, entry count u64, sector size u32;
* for each entry one header sector (sector u64, sector count u64, flags u64, length of the mark text
  u64, the text from byte 32) and then the data, unless the entry is a discard.

A log comes from somewhere else, so nothing in it is believed. No allocation follows a field of the
file: the index takes 32 bytes an entry, and an entry takes at least a sector.
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import tempfile
import warnings
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from jrnl._core import take_entries
from jrnl.errors import FormatError, InvalidType, naming

FLUSH, FUA, DISCARD, MARK, METADATA = (1 << bit for bit in range(5))
_KNOWN_FLAGS: Final = FLUSH | FUA | DISCARD | MARK | METADATA
MAGIC: Final = 0x6A736677736872
VERSION: Final = 1
_SECTOR_SIZES: Final = tuple(1 << shift for shift in range(9, 17))
SUPER: Final = struct.Struct("<QQQI")
HEADER: Final = struct.Struct("<QQQQ")
_OFFSET_END: Final = 1 << 63

_RECORD: Final = struct.Struct("<QQQII")
_RECORD_NAMES: Final = ("offset", "length", "data", "flags", "mark_length")
_RECORD_DTYPE: Final = np.dtype(list(zip(_RECORD_NAMES, "QQQII", strict=True))).newbyteorder("<")

PIECE_BYTES: Final = 1 << 20
_BATCH_ENTRIES: Final = 4096

_XZ_MAGIC: Final = b"\xfd7zXZ\0"
_XZ_MEMORY_BYTES: Final = 128 << 20  # twice what reading `xz -9` takes
_XZ_OUTPUT_MAX: Final = 4 << 30  # the temporary file may lie in memory


class LogWarning(UserWarning):
    """A log is not what its super says: a stale count, a torn last entry, a tail of no entries."""


@dataclass(slots=True)
class Log(AbstractContextManager["Log"]):
    """A log whose headers have been checked: where the data of each entry lies, not the data.

    Holds the file open; close it, or use it in a ``with`` block.

    Attributes
    ----------
    name : str
        The path that the log was read from.
    sector_size : int
        Bytes in a sector of the log.
    counted : int
        The number of entries that the super counts. `entries` may be longer (a stale count) or
        shorter by one (a torn last entry).
    entries : numpy.ndarray
        One record an entry, in the order of the log: ``offset`` and ``length`` of the range in the
        volume, in bytes; ``data``, the byte of the log behind the entry's header sector, where its
        data starts if it has any; ``flags``; ``mark_length`` in bytes. Read-only.
    """

    name: str
    sector_size: int
    counted: int
    entries: npt.NDArray[Any] = field(repr=False)
    _file: IO[bytes] = field(repr=False)

    @property
    def extent(self) -> int:
        """The size in bytes of the smallest volume that the log fits."""
        return _extent(self.entries)

    def mark(self, index: int) -> str | None:
        """Give the recorded mark text of an entry up to the first NUL (bad UTF-8: U+FFFD), or None.

        The name that a replay makes of it may differ.
        """
        entry = self.entries[index]
        if not int(entry["flags"]) & MARK:
            return None
        text = bytearray(int(entry["mark_length"]))
        self.readinto(int(entry["data"]) - self.sector_size + HEADER.size, memoryview(text))
        return text.split(b"\0", 1)[0].decode("utf-8", "replace")

    def readinto(self, position: int, buffer: memoryview) -> None:
        """Fill a buffer from byte `position` of the log; FormatError where the log has shrunk."""
        done = 0
        while done < len(buffer):
            with naming(lambda: self.name):
                count = os.preadv(self._file.fileno(), [buffer[done:]], position + done)
            if count == 0:
                raise FormatError(
                    f"{self.name}: the file now ends at byte {position + done}, before data whose "
                    "header was read earlier; replay a log that nobody writes to"
                )
            done += count

    def close(self) -> None:
        """Close the file. `entries` stays."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: str | os.PathLike[str], volume_size: int | None = None) -> Log:
    """Read and check every entry header of a dm-log-writes log, and none of the data.

    Past the counted entries a log is read on while entries are plausible: known flags, a range
    inside the volume, data inside the file, zeroes where recorders pad the header. Recorders write
    the count only now and then (the kernel at FUA and MARK, QEMU at a flush), so a crash leaves it
    behind. A sector of zeroes ends the log.

    Parameters
    ----------
    path : str or path-like
        A log: a file or a block device. One that is packed with xz (known by its first bytes) is
        unpacked into an anonymous file in the directory for temporary files first, up to 4 GiB.
    volume_size : int, optional
        Size in bytes of the volume that the entries must lie in; without it, any below 2**63.

    Raises
    ------
    FormatError
        The file is not a log, or an entry that the super counts is damaged, missing, or past the
        end of the volume. Says which entry, at which byte, and what to change.

    Warns
    -----
    LogWarning
        The count is stale and more entries follow; the last entry is cut by the end of the file
        and was dropped; what follows the last entry is no entry.

    References
    ----------
    Linux ``drivers/md/dm-log-writes.c``, QEMU ``block/blklogwrites.c``, xfstests ``src/log-writes``
    """
    return open_log(path, volume_size)


def open_log(path: str | os.PathLike[str], volume_size: int | None) -> Log:
    """As `read_log`; what it warns of is said of the line that called the caller."""
    file, name = _open_file(path)
    try:
        size = os.lseek(file.fileno(), 0, os.SEEK_END)
        sector_size, counted = _parse_super(os.pread(file.fileno(), SUPER.size, 0), size, name)
        limit = _OFFSET_END if volume_size is None else volume_size
        headers = _Headers(file, name, size, sector_size, counted, limit)
        headers.read()
        for remark in headers.remarks:
            warnings.warn(remark, LogWarning, stacklevel=3)
    except BaseException:
        file.close()
        raise
    return Log(name, sector_size, counted, headers.entries(), file)


def _parse_super(raw: bytes, size: int, name: str) -> tuple[int, int]:
    """Check the super; give the sector size and the number of entries."""
    magic, version, counted, sector_size = SUPER.unpack_from(raw.ljust(SUPER.size, b"\0"))
    if len(raw) < SUPER.size:
        fault = f"it ends at byte {size}; a dm-log-writes log starts with {SUPER.size} of super"
    elif magic != MAGIC:
        fault = f"magic {magic:#x} at byte 0, expected {MAGIC:#x}; name a log, plain or xz-packed"
    elif version != VERSION:
        fault = f"version {version} at byte 8; record the log in version {VERSION}"
    elif sector_size not in _SECTOR_SIZES:
        fault = f"sector size {sector_size} at byte 24; record it with one of {_SECTOR_SIZES}"
    elif size < sector_size:
        fault = f"it ends at byte {size}, inside its first sector of {sector_size}; copy it again"
    else:
        return sector_size, counted
    raise FormatError(f"{name}: {fault}")


class _Entry(NamedTuple):
    """The fields of one header, in bytes."""

    offset: int
    length: int
    flags: int
    mark_length: int
    stored: int

    @classmethod
    def parse(cls, raw: bytes, sector_size: int) -> _Entry:
        sector, sector_count, flags, text_length = HEADER.unpack_from(raw)
        length = sector_count * sector_size
        mark_length = text_length if flags & MARK else 0
        stored = 0 if flags & DISCARD else length
        return cls(sector * sector_size, length, flags, mark_length, stored)

    def fault(self, sector_size: int) -> str:
        """Say what no recorder writes, or nothing."""
        if self.flags & ~_KNOWN_FLAGS:
            return f"its flags {self.flags:#x} have bits beyond the known {_KNOWN_FLAGS:#x}"
        if self.offset + self.length >= _OFFSET_END:
            return f"its range (byte {self.offset}, {self.length} bytes) ends beyond 2**63"
        room = sector_size - HEADER.size
        if self.mark_length > room:
            return f"its mark text takes {self.mark_length} bytes, and its sector has {room}"
        return ""


@dataclass
class _Headers:
    """The walk over the headers: the entries that the super counts, then what follows them."""

    file: IO[bytes]
    name: str
    size: int
    sector_size: int
    counted: int
    volume_size: int
    taken: int = 0
    index: bytearray = field(default_factory=bytearray)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.position = self.sector_size

    def entries(self) -> npt.NDArray[Any]:
        entries = np.frombuffer(self.index, dtype=_RECORD_DTYPE)
        entries.flags.writeable = False
        return entries

    def read(self) -> None:
        """Take one entry after the other, up to the end of the log."""
        self._take_plain()
        while True:
            with naming(lambda: self.name):
                raw = os.pread(self.file.fileno(), self.sector_size, self.position)
            if not raw.lstrip(b"\0"):
                if self.taken < self.counted:
                    self._end("it is all zeroes" if raw else "the file ends before it", torn=True)
                break
            if len(raw) < self.sector_size:
                self._end("its header is cut by the end of the file", torn=True)
                break
            entry = _Entry.parse(raw, self.sector_size)
            if fault := entry.fault(self.sector_size) or self._misplaced(entry, raw):
                self._end(fault)
                break
            data = self.position + self.sector_size
            if data + entry.stored > self.size:
                self._end("its data is cut by the end of the file", torn=True)
                break
            self.index += _RECORD.pack(*entry[:2], data, *entry[2:4])
            self.position = data + entry.stored
            self.taken += 1
        if self.taken > self.counted:
            self.remarks.append(
                f"{self.name}: the super counts {self.counted} entries and the log holds "
                f"{self.taken}: its count is stale, all {self.taken} are used"
            )

    def _take_plain(self) -> None:
        """Take of the counted entries those before the first that something is to be said of."""
        rows = np.empty(_BATCH_ENTRIES, _RECORD_DTYPE)
        while self.taken < self.counted:
            asked = min(len(rows), self.counted - self.taken)
            count, self.position = take_entries(
                self.file.fileno(),
                self.position,
                self.size,
                self.sector_size,
                self.volume_size,
                rows[:asked],
            )
            self.index += rows[:count].data
            self.taken += count
            if count < asked:
                return

    def _misplaced(self, entry: _Entry, raw: bytes) -> str:
        """Say what is wrong with an entry in this place, or nothing."""
        end = entry.offset + entry.length if entry.length else 0
        if end > self.volume_size:
            fault = f"its bytes {entry.offset} to {end} pass the volume's end at {self.volume_size}"
            if self.taken < self.counted:
                raise FormatError(
                    f"{self._where()}: {fault}; replay onto a volume of at least "
                    f"{max(end, self._extent_counted())} bytes"
                )
            return fault
        if self.taken >= self.counted:
            if not entry.flags and not entry.length:
                return "it has neither sectors nor flags"
            if raw[HEADER.size + entry.mark_length :].strip(b"\0"):
                return "its header sector is not padded with zeroes"
        return ""

    def _extent_counted(self) -> int:
        """Give the volume size that the counted entries need, as far as they can be read."""
        every = replace(self, volume_size=_OFFSET_END, taken=0, index=bytearray(), remarks=[])
        with suppress(FormatError):
            every.read()
        return _extent(every.entries()[: self.counted])

    def _end(self, fault: str, *, torn: bool = False) -> None:
        """End the log before this entry. Of the counted ones only a torn last may be missing."""
        if self.taken + 1 < self.counted or (self.taken < self.counted and not torn):
            raise FormatError(
                f"{self._where()}: {fault}; copy or record the log again, or keep what is whole: "
                f"set the count at byte 16 to {self.taken} and cut the file at byte {self.position}"
            )
        what = "the entry was dropped" if torn else "it is not taken for an entry"
        self.remarks.append(f"{self._where()}: {fault}; {what}, {self.taken} entries are used")

    def _where(self) -> str:
        return f"{self.name}: entry {self.taken + 1} ({self.counted} counted), byte {self.position}"


def _extent(entries: npt.NDArray[Any]) -> int:
    touching = entries[entries["length"] > 0]
    return int((touching["offset"] + touching["length"]).max(initial=0))


def _open_file(path: str | os.PathLike[str]) -> tuple[IO[bytes], str]:
    """Open a log without waiting for anybody, unpacked where it is packed."""
    try:
        name = os.fsdecode(path)
        # O_NONBLOCK: a pipe without a writer would hold the caller before it can be refused.
        file = io.FileIO(name, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except TypeError as error:
        raise InvalidType(f"the path of a log: {error}") from error
    except IsADirectoryError as error:
        raise FormatError(f"{name}: is a directory; name a dm-log-writes log") from error
    with ExitStack() as stack:
        stack.enter_context(file)
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise FormatError(f"{name}: is neither a file nor a block device; name a log")
        if os.pread(file.fileno(), len(_XZ_MAGIC), 0) == _XZ_MAGIC:
            return _unpack(file, name), name
        stack.pop_all()
        return file, name


def _unpack(packed: IO[bytes], name: str) -> IO[bytes]:
    """Unpack an xz file into an anonymous one, 1 MiB at a time; runs of zeroes become holes."""
    stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
    size = 0
    with ExitStack() as stack:
        out = stack.enter_context(tempfile.TemporaryFile(prefix="jrnl-log-"))
        while not stream.eof:
            data = packed.read(PIECE_BYTES) if stream.needs_input else b""
            if stream.needs_input and not data:
                raise FormatError(f"{name}: its xz packing is cut short; copy the file again")
            try:
                piece = stream.decompress(data, PIECE_BYTES)
            except lzma.LZMAError as error:
                raise FormatError(f"{name}: bad xz packing ({error}); copy it again") from error
            if size == 0 and len(piece) > _SECTOR_SIZES[-1]:
                _parse_super(piece, len(piece), name)  # refuse a packed disk image early
            size += len(piece)
            if size > _XZ_OUTPUT_MAX:
                raise FormatError(f"{name}: over {_XZ_OUTPUT_MAX} bytes unpacked; try xz -d first")
            with naming(tempfile.gettempdir):  # where it has no room
                if piece.strip(b"\0"):
                    out.write(piece)
                else:
                    out.seek(size)
        if stream.unused_data or packed.read(1):
            raise FormatError(f"{name}: more follows its xz stream; unpack it with xz -d")
        with naming(tempfile.gettempdir):
            out.truncate(size)
        stack.pop_all()
        return out
