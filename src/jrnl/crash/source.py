"""Histories as crash states need them: entries in a table, what they wrote, what was there before.

A history is a store, or a log that is read in place; what else tells of itself as they do would do.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from jrnl.errors import InvalidType
from jrnl.logwrites import DISCARD, FLUSH, FUA
from jrnl.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jrnl.points import Point
    from jrnl.state import State
    from jrnl.view import View

    Rows = NDArray[Any]

ROW: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("volume", "<u2"),
        ("offset", "<i8"),
        ("length", "<i8"),  # 0 where the entry changes no bytes
        ("zeroes", "?"),  # a discard, or zeroes: there is no content
        ("discard", "?"),
        ("flush", "?"),  # what came before is durable once this entry is done
        ("fua", "?"),  # and so is this one itself
    ]
)
_WRITE, _DISCARD, _ZEROES, _FLUSH = 1, 2, 3, 5
_VIEWS_KEPT = 4
_AHEAD_ENTRIES, _AHEAD_BYTES = 256, 4 << 20
BLOCK: Final = 4096


class Source(Protocol):
    """What a history gives.

    Attributes
    ----------
    sizes : dict of str to int
        Bytes of each volume, by name, in order.
    oldest, newest : int
        The first and last state that there is.
    rows : ndarray of ROW
        All entries after `oldest`, in order.
    """

    sizes: dict[str, int]
    oldest: int
    newest: int
    rows: Rows

    def resolve(self, point: Point) -> int:
        """Return the seq of a state."""

    def readinto(self, seq: int, volume: int, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from a volume at state `seq`."""

    def contents(self, rows: Rows) -> Sequence[bytes | memoryview | None]:
        """Return what each of some entries in a row wrote; None for zeroes and what writes none."""

    def held(self, seq: int, volume: int, offset: int, length: int) -> NDArray[np.int64]:
        """Return the blocks of 4096 bytes of a range that may hold anything but zeroes."""


def source_of(history: object) -> Source:
    """Return what crash states take of a history. Raises InvalidType where it is none."""
    if isinstance(history, Store):
        return _StoreSource(history)
    if all(hasattr(history, name) for name in ("latest", "content", "entries", "window")):
        return _LogSource(history)
    raise InvalidType(
        f"a history is a store or what logwrites.attach() gives, not {type(history).__name__}"
    )


def _window_rows(rows: Rows, oldest: int) -> Rows:
    return rows[np.searchsorted(rows["seq"], oldest, "right") :]


class _Ahead:
    """Entries in a row of a store, what each has written, and a view that follows them.

    Parameters
    ----------
    rows : ndarray of ROW
    contents : sequence
        What each wrote, None for zeroes.
    view : View
        Writable, of the state before the first one.
    names : list of str
        Of the volumes.

    Attributes
    ----------
    base, last : int
        The state before the first one, and the one after the last.
    """

    def __init__(
        self, rows: Rows, contents: Sequence[bytes | None], view: View, names: list[str]
    ) -> None:
        self.base, self.last = view.seq, int(rows["seq"][-1])
        self._rows, self._contents = rows.tolist(), contents
        self._places = {row[0]: k for k, row in enumerate(self._rows)}
        self._view, self._names = view, names
        self._done, self._at = 0, self.base
        self._moving = Lock()  # states are read by any thread

    def contents(self, rows: Rows) -> list[bytes | None]:
        """Return what some of them wrote."""
        return [self._contents[self._places[seq]] for seq in rows["seq"].tolist()]

    def readinto(self, seq: int, volume: int, offset: int, buffer: memoryview) -> bool:
        """Fill `buffer` from state `seq`; return whether that could be done: it only goes on."""
        if not self.base <= seq <= self.last:
            return False
        with self._moving:
            if seq < self._at:
                return False
            while self._at < seq:
                self._bring()
            self._view.readinto(offset, buffer, self._names[volume])
            return True

    def _bring(self) -> None:
        seq, volume, offset, length, *_ = self._rows[self._done]
        content = self._contents[self._done]
        if content is not None:
            self._view.write(offset, content, self._names[volume])
        elif length:
            self._view.write_zeroes(offset, length, self._names[volume])
        self._done, self._at = self._done + 1, seq


class _StoreSource:
    """A store: what it keeps is read through views, which need nothing copied.

    A view costs the headers after it, so that there is not one for each epoch: who goes through
    them in a row is read ahead for, twice as far each time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.sizes = {name: volume.size for name, volume in store.volumes.items()}
        self._names = list(self.sizes)
        window = store.window
        self.oldest, self.newest = window.oldest, window.newest
        entries = store.journal.entries
        entries = entries[entries["seq"] <= self.newest]
        rows = np.zeros(entries.size, ROW)
        kinds = entries["kind"]
        changes = np.isin(kinds, (_WRITE, _DISCARD, _ZEROES))
        for name in ("seq", "volume", "offset"):
            rows[name] = entries[name]
        rows["length"] = np.where(changes, entries["length"], 0)
        rows["zeroes"] = np.isin(kinds, (_DISCARD, _ZEROES))
        rows["discard"] = kinds == _DISCARD
        rows["flush"] = kinds == _FLUSH
        rows["fua"] = store.options.sync == "always"
        self.rows = _window_rows(rows, self.oldest)
        self._keeps_after = store.options.images != "before"
        self._views: OrderedDict[int, View] = OrderedDict()
        self._ahead: _Ahead | None = None
        self._ahead_entries = 1

    def resolve(self, point: Point) -> int:
        with self._store.view(point) as view:
            return view.seq

    def _view(self, seq: int) -> View:
        view = self._views.get(seq)
        if view is None:
            view = self._views[seq] = self._store.view(seq)
            if len(self._views) > _VIEWS_KEPT:
                self._views.popitem(last=False)  # another thread may be reading it
        return view

    def readinto(self, seq: int, volume: int, offset: int, buffer: memoryview) -> None:
        ahead = self._ahead
        if ahead is None or not ahead.readinto(seq, volume, offset, buffer):
            self._view(seq).readinto(offset, buffer, self._names[volume])

    def contents(self, rows: Rows) -> Sequence[bytes | None]:
        first, last = rows["seq"][[0, -1]].tolist()
        ahead = self._ahead
        if ahead is None or not ahead.base < first <= last <= ahead.last:
            goes_on = ahead is not None and ahead.base < first
            self._ahead_entries = min(2 * self._ahead_entries, _AHEAD_ENTRIES) if goes_on else 1
            ahead = self._ahead = self._read_ahead(first, last)
        return ahead.contents(rows)

    def _read_ahead(self, first: int, last: int) -> _Ahead:
        """Read what entries have written, from one to another one and on."""
        seqs = self.rows["seq"]
        start, stop = int(np.searchsorted(seqs, first)), int(np.searchsorted(seqs, last, "right"))
        sizes = np.cumsum(self.rows["length"][start : start + self._ahead_entries])
        stop = max(stop, start + int(np.searchsorted(sizes, _AHEAD_BYTES)))
        rows = self.rows[start:stop]
        base = int(seqs[start - 1]) if start else self.oldest
        view = self._store.view(base, writable=True)
        return _Ahead(rows, self._contents(rows), view, self._names)

    def _contents(self, rows: Rows) -> Sequence[bytes | None]:
        written = (rows["length"] > 0) & ~rows["zeroes"]
        found: list[bytes | None] = [None] * rows.size
        journal = self._store.journal
        if self._keeps_after:
            for k in np.flatnonzero(written).tolist():
                found[k] = journal.after(int(rows["seq"][k]))
            return found
        # What an entry wrote is what stood there after it: from the last state back, one by one.
        with self._store.view(int(rows["seq"][-1]), writable=True) as state:
            for k in reversed(range(rows.size)):
                seq, index, offset, length = (int(x) for x in rows[k].tolist()[:4])
                if length:
                    name = self._names[index]
                    if written[k]:
                        found[k] = state.read(offset, length, name)
                    state.write(offset, journal.before(seq), name)
        return found

    def held(self, seq: int, volume: int, offset: int, length: int) -> NDArray[np.int64]:
        return _blocks_within(self._view(seq), volume, offset, length)


def _blocks_within(state: State, volume: int, offset: int, length: int) -> NDArray[np.int64]:
    """Return the blocks of a range in which a state may hold anything but zeroes."""
    starts, lengths = state._held(volume)
    low = np.maximum(starts, offset)
    high = np.minimum(starts + lengths, offset + length)
    there = low < high
    firsts, lasts = low[there] // BLOCK, (high[there] - 1) // BLOCK
    counts = lasts - firsts + 1
    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.unique(np.repeat(firsts, counts) + steps)


class _LogSource:
    """A log that is read in place: seq k is the state after its first k entries."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.sizes = {"data": log.size}
        self.oldest, self.newest = 0, log.seq
        entries = log.entries
        rows = np.zeros(entries.size, ROW)
        flags = entries["flags"]
        rows["seq"] = np.arange(1, entries.size + 1)
        rows["offset"], rows["length"] = entries["offset"], entries["length"]
        rows["discard"] = rows["zeroes"] = flags & DISCARD != 0
        rows["flush"], rows["fua"] = flags & FLUSH != 0, flags & FUA != 0
        self.rows = rows

    def resolve(self, point: Point) -> int:
        with self._log.view(point) as view:
            seq: int = view.seq
            return seq

    def readinto(self, seq: int, volume: int, offset: int, buffer: memoryview) -> None:
        self._log._readinto(seq, offset, buffer)

    def contents(self, rows: Rows) -> Sequence[memoryview | None]:
        found: list[memoryview | None] = []
        for seq, _, offset, length, zeroes, *_ in rows.tolist():
            if not length or zeroes:
                found.append(None)
                continue
            content = memoryview(bytearray(length))
            self._log.content(seq, offset, content)
            found.append(content)
        return found

    def held(self, seq: int, volume: int, offset: int, length: int) -> NDArray[np.int64]:
        with self._log.view(seq) as view:
            return _blocks_within(view, volume, offset, length)
