"""States of a log that is attached: views, and images that move from state to state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import RLock
from typing import TYPE_CHECKING, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from jrnl._core import RecordedLog
from jrnl.closeable import ClosesItself
from jrnl.compare import PIECE_BYTES, Pair, compare_bytes, united
from jrnl.errors import StoreBusy, StoreClosed
from jrnl.logwrites.read import DISCARD
from jrnl.logwrites.scratch import Scratch, gaps
from jrnl.memfd import MemoryFile
from jrnl.points import Point
from jrnl.state import State, StateVolume
from jrnl.volume_file import Readable, Writable

if TYPE_CHECKING:
    from typing import Any

VOLUME = "data"


class Attached:
    """What the states of one log share: where its bytes are, and where they may differ."""

    def __init__(
        self,
        recorded: RecordedLog,
        entries: NDArray[Any],
        source_size: int,
    ) -> None:
        self.recorded = recorded
        self.entries = entries
        self._source_size = source_size

    def held(self, seq: int) -> Pair:
        """Return where a state may hold anything but zeroes."""
        offsets, lengths, numbers = self.recorded.latest(seq, 0, self.recorded.size)
        source = numbers == 0
        lengths[source] = np.clip(self._source_size - offsets[source], 0, lengths[source])
        lengths[~source] *= self.entries["flags"][numbers[~source] - 1] & DISCARD == 0
        return united((offsets, lengths))

    def suspects(self, one: int, other: int) -> Pair:
        """Return where two states may differ: told from the entries between them, nothing read."""
        low, high = sorted((one, other))
        written = self.entries[low:high]
        ranges = written["offset"].astype(np.int64), written["length"].astype(np.int64)
        return self.recorded.suspects(one, other, *united(ranges))

    def differences(self, one: int, other: int, *, exact: bool) -> Pair:
        """Return where two states differ, or may."""
        ranges = self.suspects(one, other)
        return self.recorded.differences(one, other, *ranges) if exact else ranges


class LogState(State, ClosesItself):
    """What a view of an attached log and an image of it have in common."""

    _own: Scratch | None = None

    def __init__(self, attached: Attached, seq: int) -> None:
        attached.recorded.check_open()
        self._indices = {VOLUME: 0}
        self._attached: Attached | None = attached
        self.seq = seq

    @property
    def _log(self) -> Attached:
        if self._attached is None:
            raise StoreClosed(f"the {type(self).__name__} is closed")
        return self._attached

    def __enter__(self) -> Self:
        self._log.recorded.check_open()
        return self

    def read(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> bytes:
        """Return `length` bytes of the volume at `offset`.

        Raises
        ------
        OutOfBounds, InvalidType, UnknownVolume, StoreClosed
        FormatError
            The log, or the source, was cut since it was attached.
        """
        if volume is None and self._own is None:
            return self._log.recorded.read(self.seq, offset, length)
        return super().read(offset, length, volume)

    def readinto(self, offset: SupportsIndex, buffer: Writable, volume: str | None = None) -> None:
        """Fill `buffer`, writable and C-contiguous, from `offset` on. Raises as `read`."""
        if volume is None and self._own is None:
            self._log.recorded.readinto(self.seq, offset, buffer)
        else:
            super().readinto(offset, buffer, volume)

    def _size(self, index: int) -> int:
        return self._log.recorded.size

    def _readinto(self, index: int, offset: int, buffer: memoryview) -> None:
        recorded, own = self._log.recorded, self._own
        if own is None:
            recorded.readinto(self.seq, offset, buffer)
            return
        with own.lock:
            runs = own.over(offset, offset + len(buffer))
        for start, stop in gaps(offset, offset + len(buffer), runs):
            recorded.readinto(self.seq, start, buffer[start - offset : stop - offset])
        for start, stop, content in runs:
            zeroes = bytes(stop - start) if content is None else content
            buffer[start - offset : stop - offset] = zeroes

    def _held(self, index: int) -> Pair:
        return united(self._log.held(self.seq), self._own_ranges())

    def _own_ranges(self) -> Pair:
        if self._own is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self._own.ranges()

    def _differs_from(self, other: State, index: int, *, exact: bool) -> Pair | None:
        log = self._log
        if not isinstance(other, LogState) or other._log is not log:
            return None
        if self._own is None and other._own is None:
            return log.differences(self.seq, other.seq, exact=exact)
        ranges = united(log.suspects(self.seq, other.seq), self._own_ranges(), other._own_ranges())
        if not exact:
            return ranges

        def mine(offset: int, buffer: memoryview) -> None:
            self._readinto(0, offset, buffer)

        def theirs(offset: int, buffer: memoryview) -> None:
            other._readinto(0, offset, buffer)

        return compare_bytes(mine, theirs, *ranges)

    def close(self) -> None:
        """Give it up, and what `path` gave. Closing twice is fine."""
        self._attached = None
        self._close_files()


class LogView(LogState):
    """One state of an attached log, read in place; ``history.view(at)``.

    A writable one keeps what is written to it for itself, and loses it when it is closed. It has
    what every state has: see `State`.

    Attributes
    ----------
    seq : int
        The state it shows, or began with.
    writable : bool
    """

    def __init__(self, attached: Attached, seq: int, *, writable: bool) -> None:
        super().__init__(attached, seq)
        self.writable = writable
        if writable:
            self._own = Scratch()

    def __repr__(self) -> str:
        return f"<jrnl.LogView at {self.seq}{', writable' if self.writable else ''}>"

    @property
    def _writable(self) -> bool:
        return self.writable

    def diff(
        self,
        other: State | None = None,
        volume: str | StateVolume | None = None,
        *,
        exact: bool = True,
    ) -> NDArray[np.void]:
        """Say where it differs from another state, or from the one that it began with.

        Takes, returns and raises what `State.diff` does.
        """
        if other is not None:
            return super().diff(other, volume, exact=exact)
        with LogView(self._log, self.seq, writable=False) as before:
            return super().diff(before, volume, exact=exact)

    @property
    def own_bytes(self) -> int:
        """Bytes that were written to this view and take memory."""
        return 0 if self._own is None else self._own.content_bytes

    def write(self, offset: SupportsIndex, data: Readable, volume: str | None = None) -> None:
        """Write `data` at `offset` to this view alone: all of it, or nothing.

        Raises
        ------
        ReadOnlyStore
            The view was not made with ``writable=True``.
        OutOfBounds, UnknownVolume, InvalidType, InvalidArgument, StoreClosed, StoreBusy,
        MemoryError
        """
        self[volume or VOLUME].write(offset, data)

    def write_zeroes(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> None:
        """Zero a range of this view alone. Raises as `write`."""
        self[volume or VOLUME].write_zeroes(offset, length)

    def discard(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | None = None
    ) -> None:
        """Discard a range of this view alone: it reads as zeroes. Raises as `write`."""
        self.write_zeroes(offset, length, volume)

    def _write(self, index: int, offset: int, data: memoryview) -> int:
        self._scratch.write(offset, data)
        return self.seq

    def _write_zeroes(self, index: int, offset: int, length: int) -> int:
        self._scratch.zero(offset, length)
        return self.seq

    @property
    def _scratch(self) -> Scratch:
        self._log.recorded.check_open()
        assert self._own is not None
        return self._own


class LogRecovery(LogState):
    """An image of a state of an attached log that can be moved; ``history.recover(at)``.

    It copies nothing until it is asked for an array or a path. The file at `path` follows each
    `seek`, back as cheaply as forward: by what differs.

    Attributes
    ----------
    seq : int
        The state it shows.
    """

    def __init__(self, attached: Attached, seq: int, resolve: Callable[[Point], int]) -> None:
        super().__init__(attached, seq)
        self._resolve = resolve
        self._lock = RLock()
        self._moving = False

    def __repr__(self) -> str:
        return f"<jrnl.LogRecovery at {self.seq}>"

    def as_array(self, volume: str | None = None) -> NDArray[np.uint8]:
        """Return a copy of the whole volume: uint8[size], the caller's own. Raises as `read`."""
        index = self._find(volume)
        content = np.zeros(self._size(index), np.uint8)
        for start, length in zip(*(column.tolist() for column in self._held(index)), strict=True):
            self.readinto(start, content[start : start + length])
        return content

    def seek(self, to: Point) -> None:
        """Move it to another state, earlier or later; ``path()`` follows by what differs.

        Parameters
        ----------
        to : point
            A seq or the name of a mark.

        Raises
        ------
        UnknownPoint, InvalidType, StoreClosed
        FormatError, OSError
            The log cannot be read any more, or the file not be written; nothing has changed, but
            that the next `path` is another one.
        StoreBusy
            From inside another `seek` on the same thread.
        """
        log = self._log
        seq = self._resolve(to)
        with self._lock:
            if self._moving:
                raise StoreBusy("a seek of this image is under way on this thread; seek after it")
            self._moving = True
            try:
                self._move(log, seq)
            finally:
                self._moving = False

    def _move(self, log: Attached, seq: int) -> None:
        files: dict[int, MemoryFile] = self.__dict__.get("_files", {})
        before, self.seq = self.seq, seq
        try:
            for file in list(files.values()):
                file.follow(self, _in_pieces(*log.suspects(before, seq)))
        except BaseException:
            self.seq = before
            self._close_files()
            raise

    def _path(self, index: int) -> str:
        """Return the path of a file that follows, and which others can only read."""
        files: dict[int, MemoryFile] = self.__dict__.setdefault("_files", {})
        with self._lock:
            if index not in files:
                files[index] = MemoryFile(f"jrnl-{self.seq}", self, index, follows=True)
            return files[index].path


def _in_pieces(offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the same ranges, none longer than is read at a time."""
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        for start in range(offset, offset + length, PIECE_BYTES):
            yield start, min(PIECE_BYTES, offset + length - start)
