"""Entries of a history as a table: rows for JSON, a Parquet file for everything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from jrnl.errors import InvalidType, PointExpired
from jrnl.extras import need
from jrnl.logwrites import DISCARD, FLUSH, FUA, MARK, METADATA, LogHistory
from jrnl.points import Point
from jrnl.store import Store
from jrnl.whole_file import whole_file

if TYPE_CHECKING:
    History = Store | LogHistory

_BATCH_ENTRIES: Final = 1 << 16
_KINDS: Final = ("empty", "write", "discard", "zeroes", "mark", "flush", "rewind")
_EMPTY, _WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH, _REWIND = range(7)
_FLAGS: Final = {
    FLUSH: "flush", FUA: "fua", DISCARD: "discard", MARK: "mark", METADATA: "metadata",
}  # fmt: skip
_COLUMN: Final = np.dtype(
    [
        ("seq", "<i8"),
        ("time_ns", "<i8"),
        ("kind", "u1"),
        ("volume", "<u2"),
        ("offset", "<i8"),  # of a rewind: the state that it stands for; of a mark: that, or -1
        ("length", "<i8"),
        ("flags", "<u4"),
    ]
)


def rows(
    history: History, start: Point | None = None, stop: Point | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the entries of a history, oldest first, as dicts that `json` writes.

    What does not apply to an entry is not in its row.

    - ``seq``, ``kind``: "write", "discard", "zeroes", "mark", "flush" or "rewind"; in a log also
      "empty".
    - ``time``: ISO 8601, UTC, with nanoseconds; a log has no times.
    - ``volume``, ``offset``, ``length``: of what changes bytes.
    - ``name``: of a mark; in a log as ``history.marks`` has it.
    - ``state``: of a rewind, the seq of the state that it stands for; of a mark that names an
      earlier state, that.
    - ``flags``: of a log's entry that has any, a list.

    Parameters
    ----------
    history : Store or LogHistory
        Of a store, what its journal holds at the first row.
    start, stop : point, optional
        The first and the last entry, both among them. An int is a bound, whether or not it is the
        seq of an entry; by default there is none.

    Raises
    ------
    UnknownPoint, PointExpired, InvalidType, CorruptionError, FormatError, StoreClosed
    """
    table = _Table(history, start, stop)
    return (row for batch in table.batches() for row in table.dicts(batch))


def to_parquet(
    history: History,
    path: str | os.PathLike[str],
    start: Point | None = None,
    stop: Point | None = None,
) -> None:
    """Write the entries of a history as a Parquet file, a row each, whole or not at all.

    The columns are those of `rows`, null where that leaves them out: seq, offset, length, state
    (uint64), time (timestamp, ns, UTC), kind and volume (dictionaries of strings), name (string),
    flags (a dictionary of strings, joined by "|"). Row groups have 65,536 rows; one is in memory at
    a time, and the headers, 40 bytes an entry. Needs pyarrow, which the extra ``parquet`` has.

    Takes what `rows` does; `path` is where there is nothing yet.

    Raises
    ------
    PathExists, MissingPackage, OSError, and what `rows` does.
    """
    arrow, parquet = need("pyarrow", "parquet"), need("pyarrow.parquet", "parquet")
    table = _Table(history, start, stop)
    schema = _schema(arrow)
    with whole_file(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for batch in table.batches():
            columns = table.columns(batch, arrow)
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _schema(arrow: Any) -> Any:
    words = arrow.dictionary(arrow.int32(), arrow.string())
    return arrow.schema(
        [
            arrow.field("seq", arrow.uint64(), nullable=False),
            arrow.field("time", arrow.timestamp("ns", tz="UTC")),
            arrow.field("kind", words, nullable=False),
            arrow.field("volume", words),
            arrow.field("offset", arrow.uint64()),
            arrow.field("length", arrow.uint64()),
            arrow.field("name", arrow.string()),
            arrow.field("state", arrow.uint64()),
            arrow.field("flags", words),
        ]
    )


class _Table:
    """The entries of a history between two seqs, in one form for both kinds of history."""

    def __init__(self, history: History, start: Point | None, stop: Point | None) -> None:
        if not isinstance(history, Store | LogHistory):
            raise InvalidType(
                "a history is a store or what logwrites.attach() gives, not "
                f"{type(history).__name__}"
            )
        self._history = history
        self._volumes = [*history.volumes] if isinstance(history, Store) else ["data"]
        first, last = _bound(history, start), _bound(history, stop)
        if isinstance(history, Store):
            self._entries = history.journal.between(first, last)
            self._first = 0  # the entries know their seqs
        else:
            history.states()  # raises where it is closed
            self._marks = {seq: name for name, seq in history.marks.items()}
            self._first = max(first or 0, 1)
            last = history.seq if last is None else min(last, history.seq)
            self._entries = history.entries[self._first - 1 : max(last, self._first - 1)]

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield the entries, up to 65,536 at a time."""
        convert = self._of_store if isinstance(self._history, Store) else self._of_log
        for start in range(0, len(self._entries), _BATCH_ENTRIES):
            yield convert(start, self._entries[start : start + _BATCH_ENTRIES])

    def _of_store(self, _: int, entries: NDArray[Any]) -> NDArray[Any]:
        found = np.zeros(entries.size, _COLUMN)
        for name in ("seq", "time_ns", "kind", "volume", "offset", "length"):
            found[name] = entries[name]
        for k in np.flatnonzero(found["kind"] == _MARK).tolist():
            found["offset"][k] = self._state(int(found["seq"][k]))
        return found

    def _of_log(self, start: int, entries: NDArray[Any]) -> NDArray[Any]:
        found = np.zeros(entries.size, _COLUMN)
        found["seq"] = np.arange(entries.size) + self._first + start
        for name in ("offset", "length", "flags"):
            found[name] = entries[name]
        flags = entries["flags"]
        found["kind"] = np.select(
            [flags & MARK != 0, entries["length"] > 0, flags & FLUSH != 0],
            [_MARK, np.where(flags & DISCARD, _DISCARD, _WRITE), _FLUSH],
            _EMPTY,
        )
        found["offset"][found["kind"] == _MARK] = -1
        return found

    def _name(self, seq: int) -> str | None:
        """Return a mark's name; None where it has left the journal meanwhile."""
        if isinstance(self._history, LogHistory):
            return self._marks[seq]
        try:
            return self._history.journal.after(seq).decode()
        except PointExpired:
            return None

    def _state(self, seq: int) -> int:
        """Return the earlier state that a mark names; -1 where it is the one after it."""
        assert isinstance(self._history, Store)
        try:
            state = self._history.journal._state_named(seq)
        except PointExpired:
            return -1
        return -1 if state is None else state

    def dicts(self, batch: NDArray[Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a batch."""
        timed = isinstance(self._history, Store)
        for seq, time_ns, kind, volume, offset, length, flags in batch.tolist():
            row: dict[str, Any] = {"seq": seq}
            if timed:
                row["time"] = _iso(time_ns)
            row["kind"] = _KINDS[kind]
            if _WRITE <= kind <= _ZEROES:
                row |= {"volume": self._volumes[volume], "offset": offset, "length": length}
            elif kind == _MARK:
                row["name"] = self._name(seq)
                if offset >= 0:
                    row["state"] = offset
            elif kind == _REWIND:
                row["state"] = offset
            if flags:
                row["flags"] = _words(flags)
            yield row

    def columns(self, batch: NDArray[Any], arrow: Any) -> list[Any]:
        """Return the columns of a batch, in the order of the schema."""
        kinds = batch["kind"]
        idle = (kinds < _WRITE) | (kinds > _ZEROES)
        stateless = (kinds != _REWIND) & ((kinds != _MARK) | (batch["offset"] < 0))
        marks = batch["seq"][kinds == _MARK].tolist()
        names: list[str | None] = [None] * batch.size
        for k, seq in zip(np.flatnonzero(kinds == _MARK).tolist(), marks, strict=True):
            names[k] = self._name(seq)
        untimed = np.full(batch.size, not isinstance(self._history, Store))
        flags, numbers = np.unique(batch["flags"], return_inverse=True)
        return [
            arrow.array(batch["seq"], arrow.uint64()),
            arrow.array(batch["time_ns"], arrow.timestamp("ns", tz="UTC"), mask=untimed),
            _words_of(arrow, kinds, _KINDS),
            _words_of(arrow, batch["volume"], self._volumes, idle),
            arrow.array(np.maximum(batch["offset"], 0), arrow.uint64(), mask=idle),
            arrow.array(batch["length"], arrow.uint64(), mask=idle),
            arrow.array(names, arrow.string()),
            arrow.array(np.maximum(batch["offset"], 0), arrow.uint64(), mask=stateless),
            _words_of(
                arrow,
                numbers,
                ["|".join(_words(value)) for value in flags.tolist()],
                batch["flags"] == 0,
            ),
        ]


def _words_of(
    arrow: Any, numbers: NDArray[Any], words: Any, mask: NDArray[np.bool_] | None = None
) -> Any:
    """Return a column of words by their numbers."""
    indices = arrow.array(numbers.astype(np.int32), mask=mask)
    return arrow.DictionaryArray.from_arrays(indices, arrow.array(list(words), arrow.string()))


def _words(flags: int) -> list[str]:
    return [word for bit, word in _FLAGS.items() if flags & bit]


def _bound(history: History, point: Point | None) -> int | None:
    """Return the seq of a bound: an int as it is, else that of the state it names."""
    if point is None or (isinstance(point, int) and not isinstance(point, bool)):
        return point
    return int(history.states(point)[0])


def _iso(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
