"""A log as a history, read in place: nothing is replayed, and nothing is copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from jrnl import heat, search
from jrnl._core import FileDevice, FlatBuffer, RecordedLog
from jrnl.closeable import ClosesItself
from jrnl.errors import (
    InvalidArgument,
    InvalidType,
    NameTaken,
    UnknownPoint,
    UnknownVolume,
    naming,
    shown,
)
from jrnl.logwrites.index import build
from jrnl.logwrites.log_state import VOLUME, Attached, LogRecovery, LogView
from jrnl.logwrites.names import name_mark
from jrnl.logwrites.read import DISCARD, MARK, Log, open_log
from jrnl.points import NamePoint, Point, SeqPoint, Window, parse_point
from jrnl.sizes import Size, as_flag, parse_size
from jrnl.state import StateVolume, range_of
from jrnl.volume_file import Readable, Writable

Path = str | os.PathLike[str]

_HISTORY_DTYPE = np.dtype(
    [("seq", "<u8"), ("offset", "<u8"), ("length", "<u8"), ("data", "<u8"), ("flags", "<u4")]
)


def attach(
    path: Path, size: Size | None = None, source: Path | Readable | None = None
) -> LogHistory:
    """Attach a dm-log-writes log: a read-only history of one volume, read where it lies.

    State k is that after the log's first k entries, k from 0 to their number. Opening reads the
    headers, and makes an index of about 70 bytes an entry; no data is read before it is asked for,
    and none is kept. Any state is read as fast as any other, whatever lies between.

    Parameters
    ----------
    path : str or path-like
        The log; see `read_log`, also for packed logs, stale counts and torn entries. Nobody may
        write to what was read of it; a recorder may go on behind that.
    size : int or str, optional
        The volume's size; by default the least that log and source fit.
    source : str, path-like or buffer, optional
        What state 0 holds, zeroes after it: a file or block device, or bytes of the caller's, which
        are not copied either. What lies past the volume's end is left out. By default state 0 is
        zeroes.

    Returns
    -------
    LogHistory

    Raises
    ------
    FormatError
        As `read_log` does.
    InvalidArgument
        No such size; or the log touches no byte, there is no source, and no size is given.
    InvalidType, MemoryError, OSError

    Warns
    -----
    LogWarning
        As `read_log` does.
    """
    size_bytes = None if size is None else parse_size(size)
    with open_log(path, size_bytes) as log:
        state_0, source_name, source_size = _open_source(source)
        if size_bytes is None:
            size_bytes = max(log.extent, source_size)
        if size_bytes == 0:
            raise InvalidArgument(f"{log.name}: touches no byte; give size=, the volume's size")
        index = build(log.entries, size_bytes)
        device = FileDevice(os.dup(log._file.fileno()))
        recorded = RecordedLog(device, log.entries, *index, state_0, (log.name, source_name))
        return LogHistory(log, recorded, source_size)


def _open_source(source: Path | Readable | None) -> tuple[FileDevice | FlatBuffer | None, str, int]:
    """Return what state 0 is read from, what errors call it, and its size in bytes."""
    if source is None:
        return None, "", 0
    if not isinstance(source, str | os.PathLike):
        try:
            content = FlatBuffer(source)
        except InvalidType as error:
            raise InvalidType(
                f"source must be a path or a buffer of bytes, not {type(source).__name__}"
            ) from error
        return content, "the source", len(memoryview(content))
    name = os.fsdecode(source)
    # O_NONBLOCK: a pipe without a writer would hold the caller before it can be refused.
    device = FileDevice(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    mode = os.fstat(device.fileno()).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise InvalidArgument(f"{name!r} is neither a file nor a block device")
    with naming(lambda: name):
        return device, name, device.size


class LogHistory(ClosesItself):
    """A log that is attached, as a history to look into; `jrnl.logwrites.attach` makes it.

    It has what a store has for reading, with one volume, "data". A point is a seq, or the name of a
    mark. Views and images need it open. It takes no lock: threads read side by side, and so do
    forked children.

    Attributes
    ----------
    name : str
        The path of the log.
    size : int
        Bytes of the volume.
    seq : int
        The newest state: how many entries there are.
    entries : numpy.ndarray
        One record an entry, as `Log.entries`: ``offset`` and ``length`` in bytes, ``data``, the
        byte of the log where its data starts, ``flags``, ``mark_length``. Entry k, counted from 1,
        leads from state k - 1 to state k. Read-only.
    marks : mapping of str to int
        The state that each mark names: the one after its entry. Their names are made as `replay`
        makes them.
    """

    def __init__(self, log: Log, recorded: RecordedLog, source_size: int) -> None:
        self.name = log.name
        self.size = recorded.size
        self.entries = log.entries
        self.seq = len(log.entries)
        self.marks: Mapping[str, int] = MappingProxyType(_marks(log))
        self._recorded = recorded
        self._attached = Attached(recorded, log.entries, source_size)

    def __enter__(self) -> LogHistory:
        self._recorded.check_open()
        return self

    def __repr__(self) -> str:
        closed = ", closed" if self._recorded.closed else ""
        return f"<jrnl.LogHistory {self.name!r}: {self.seq} entries, {self.size} bytes{closed}>"

    @property
    def window(self) -> Window:
        """The states that there are: all, from 0 on."""
        return Window(0, self.seq)

    def states(self, start: Point | None = None, stop: Point | None = None) -> NDArray[np.int64]:
        """Return the seqs of the states from `start` to `stop`, both among them: int64[n].

        All by default. An int is a bound, whether or not it is the seq of a state.

        Raises UnknownPoint, InvalidType, StoreClosed.
        """
        self._recorded.check_open()
        first, last = (
            bound
            if isinstance(bound, int) and not isinstance(bound, bool)
            else self._resolve(bound)
            for bound in (0 if start is None else start, self.seq if stop is None else stop)
        )
        first, last = max(first, 0), min(last, self.seq)
        return (
            np.arange(first, last + 1, dtype=np.int64) if first <= last else np.empty(0, np.int64)
        )

    def view(self, at: Point, writable: bool = False) -> LogView:
        """Look at a state.

        Parameters
        ----------
        at : int or str
            A seq, or the name of a mark.
        writable : bool
            Let it be written to: what is written is its own, and thrown away when it is closed.

        Raises
        ------
        UnknownPoint, InvalidType, StoreClosed
        """
        return LogView(self._attached, self._resolve(at), writable=as_flag(writable, "writable"))

    def recover(self, at: Point) -> LogRecovery:
        """Return an image of a state that moves to others, and has a path that follows.

        Takes and raises what `view` does.
        """
        return LogRecovery(self._attached, self._resolve(at), self._resolve)

    def diff(
        self, a: Point, b: Point, volume: str | StateVolume | None = None, *, exact: bool = False
    ) -> NDArray[np.void]:
        """Say where two states differ. Their order does not matter.

        By default that is told from the entries between them, and nothing is read: outside of the
        extents the states are equal, inside bytes may be. Zeroes over zeroes do not count. With
        `exact` both states are read there and compared, as `Store.diff` does.

        Returns
        -------
        ndarray
            Structured: volume (uint16, 0), offset and length (uint64, bytes), sorted; extents
            neither touch nor overlap.

        Raises
        ------
        UnknownPoint, UnknownVolume, InvalidType, StoreClosed, FormatError
        """
        if volume is not None:
            _check_volume(volume)
        with self.view(a) as one, self.view(b) as other:
            return one.diff(other, exact=exact)

    def digest(self, at: Point | None = None) -> str:
        """Return one XXH3-128, as 32 hex digits, over the volume at a point, by default the newest.

        Equal digests mean equal states; it is that of a store that holds the same. It reads what
        may be anything but zeroes, and sums the whole volume.

        Raises
        ------
        UnknownPoint, InvalidType, StoreClosed, FormatError
        """
        with self.view(self.seq if at is None else at) as view:
            return view.digest()

    def bisect(
        self,
        check: Callable[[LogView], object],
        start: Point | None = None,
        stop: Point | None = None,
    ) -> int:
        """Return the first state at which a check fails, by binary search, as `Store.bisect` does.

        Parameters
        ----------
        check : callable
            Gets a view, closed afterwards, and says whether that state is good. Where it fails once
            it is supposed to fail ever after.
        start, stop : point, optional
            The first and the last state to look at, as for `states`.

        Returns
        -------
        int
            A seq; that of the first state where it fails there already.

        Raises
        ------
        InvalidArgument
            It holds at the last one; or there are no states between `start` and `stop`.
        UnknownPoint, InvalidType, StoreClosed, and what the check raises.
        """
        seqs = partial(self.states, start, stop)
        return search.bisect(check, seqs, partial(self._is_good, check))

    def _is_good(self, check: Callable[[LogView], object], seq: int) -> bool:
        with self.view(seq) as view:
            return bool(check(view))

    def history(
        self, offset: SupportsIndex, length: SupportsIndex, volume: str | StateVolume | None = None
    ) -> NDArray[np.void]:
        """Say who wrote in a range: the entries that did, oldest first.

        Returns
        -------
        ndarray
            Structured: seq, offset, length, data (uint64) and flags (uint32), as `entries`.

        Raises
        ------
        OutOfBounds, UnknownVolume, InvalidType, StoreClosed
        """
        if volume is not None:
            _check_volume(volume)
        self._recorded.check_open()
        start, count = range_of(offset, length, self.size)
        wrote = (self.entries["offset"] < start + count) & (self.entries["length"] > 0)
        wrote &= self.entries["offset"] + self.entries["length"] > start
        numbers = np.flatnonzero(wrote) if count else np.empty(0, np.int64)
        rows = np.empty(numbers.size, _HISTORY_DTYPE)
        rows["seq"] = numbers + 1
        for field in ("offset", "length", "data", "flags"):
            rows[field] = self.entries[field][numbers]
        return rows

    def heat(
        self,
        block: Size = "64KiB",
        bins: heat.Bins = 256,
        start: Point | None = None,
        stop: Point | None = None,
        volume: str | StateVolume | None = None,
        *,
        by: heat.Axis | None = None,
        kinds: heat.Names = None,
    ) -> NDArray[np.int64]:
        """Count the bytes that were changed, by seq and block, as `Store.heat` does.

        A log has no times: bins and edges are of seqs, and no entry of a log is "zeroes".

        Returns
        -------
        ndarray
            int64[bins, blocks], bytes.

        Raises
        ------
        InvalidArgument, UnknownPoint, UnknownVolume, InvalidType, MemoryError, StoreClosed
        """
        if volume is not None:
            _check_volume(volume)
        if heat.as_axis(by, "seq") != "seq":
            raise InvalidArgument(f"{self.name}: a log has no times; take by='seq'")
        first, last = (
            self._resolve(point)
            for point in (0 if start is None else start, self.seq if stop is None else stop)
        )
        if first > last:
            raise InvalidArgument(f"start={first} is later than stop={last}; exchange them")
        rows = self.entries[first:last]
        wanted = rows["length"] > 0
        discards = rows["flags"][wanted] & DISCARD != 0
        changes = heat.Changes(
            np.arange(first + 1, last + 1)[wanted],
            np.where(discards, heat.KINDS["discard"], heat.KINDS["write"]),
            np.zeros(np.count_nonzero(wanted), np.int64),
            rows["offset"][wanted].astype(np.int64),
            rows["length"][wanted].astype(np.int64),
        )
        return heat.heat([self.size], changes, block, bins, kinds=kinds)

    def latest(
        self, at: int, offset: SupportsIndex, length: SupportsIndex
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Say which entry wrote each piece of a range last, at state `at`.

        Returns
        -------
        offsets, lengths : ndarray
            int64: the pieces, which rise, and together are the range.
        numbers : ndarray
            int64: which entry it was, counted from 1; 0: none, it is as in state 0.

        Raises
        ------
        UnknownPoint, OutOfBounds, InvalidType, StoreClosed
        """
        return self._recorded.latest(at, offset, length)

    def content(self, entry: int, offset: SupportsIndex, buffer: Writable) -> None:
        """Fill `buffer` with what an entry wrote from byte `offset` of the volume on.

        Parameters
        ----------
        entry : int
            Counted from 1; 0 gives what state 0 holds. A discard has written zeroes.
        offset : int
            The range that `buffer` is for lies inside the entry's.
        buffer : writable, C-contiguous buffer

        Raises
        ------
        UnknownPoint, OutOfBounds, InvalidType, InvalidArgument, StoreClosed, FormatError
        """
        self._recorded.content_of(entry, offset, buffer)

    def _readinto(self, at: int, offset: int, buffer: Writable) -> None:
        """Fill `buffer` with what state `at` holds from byte `offset` on."""
        self._recorded.readinto(at, offset, buffer)

    def close(self) -> None:
        """Close the log and its source, which raises nothing; its states can be read no more."""
        self._recorded.close()

    def _resolve(self, point: Point) -> int:
        """Return a point's seq. Raises UnknownPoint, InvalidType, StoreClosed."""
        self._recorded.check_open()
        parsed = parse_point(point)
        if isinstance(parsed, SeqPoint):
            if not 0 <= parsed.seq <= self.seq:
                raise UnknownPoint(
                    f"no such state {shown(parsed.seq)}; {self.name} has 0..{self.seq}"
                )
            return parsed.seq
        if not isinstance(parsed, NamePoint):
            raise UnknownPoint(f"{self.name}: a log has no times; name a seq or a mark")
        if parsed.name not in self.marks:
            raise UnknownPoint(
                f"no mark is called {parsed.name!r}; {self.name} has "
                f"{', '.join(map(repr, list(self.marks)[:8])) or 'none'}"
            )
        return self.marks[parsed.name]


def _check_volume(volume: object) -> None:
    if (volume.name if isinstance(volume, StateVolume) else volume) != VOLUME:
        raise UnknownVolume(f"no volume is called {volume!r}; a log has one, {VOLUME!r}")


def _marks(log: Log) -> dict[str, int]:
    """Return the states that the marks of a log name."""
    marks: dict[str, int] = {}
    repeats: dict[str, int] = {}
    for index in np.flatnonzero(log.entries["flags"] & MARK).tolist():

        def take(name: str, seq: int = index + 1) -> None:
            if marks.setdefault(name, seq) != seq:
                raise NameTaken(name)

        name_mark(log.mark(index) or "", repeats, take)
    return marks
