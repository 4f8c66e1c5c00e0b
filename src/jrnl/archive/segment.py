"""Segments: entries of a journal in order, with what they wrote, as one object of an archive.

An object is two frames, so that the first one, which says what there is, can be read alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import xxhash

from jrnl._core import FORMAT, SEGMENT_FIELDS
from jrnl.archive import sealed
from jrnl.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Readable = bytes | memoryview
    Rows = NDArray[np.void]

SEGMENT_ROW = np.dtype(SEGMENT_FIELDS)
NOTHING = (1 << 64) - 1  # the position of what has no bytes in `data`
ROWS_MOST = 1 << 16
DATA_MOST = 1 << 30
_WRITE, _DISCARD, _ZEROES, _MARK, _FLUSH, _REWIND = FORMAT["kinds"].values()
_INDEX, _DATA = b"seghead", b"segdata"  # kinds of frames
_SEQ_LIMIT = 1 << 63
_LENGTH_MOST = (1 << 32) - 1
_HEAD = struct.Struct("<QQQ16s")  # base, rows, bytes of data, sum of the second frame's header
HEAD_MOST = _HEAD.size + ROWS_MOST * SEGMENT_ROW.itemsize


@dataclass(frozen=True, eq=False)
class Index:
    """What a segment's first frame says.

    Attributes
    ----------
    base : int
        The state after which its entries come.
    rows : ndarray
        SEGMENT_ROW[n], n > 0; see `Segment`.
    data_bytes : int
        Length of what they wrote.
    data_sum : bytes
        XXH3-128 of the header of the frame that has it.
    frame_bytes : int
        Length of the first frame: where the second one begins.
    """

    base: int
    rows: Rows
    data_bytes: int
    data_sum: bytes
    frame_bytes: int

    @classmethod
    def parse(cls, body: Readable, key: str) -> Self:
        """Return what the first frame of a segment says; `body` begins with it.

        Raises
        ------
        CorruptionError
            It is damaged, or says what no journal says; the message names `key`.
        FormatError
            It is of a version that is not known here.
        """
        payload, used = sealed.unseal_first(_INDEX, body, key, HEAD_MOST)
        if len(payload) < _HEAD.size:
            raise _damaged(key, "it ends early")
        base, count, data_bytes, data_sum = _HEAD.unpack_from(payload)
        if len(payload) != _HEAD.size + count * SEGMENT_ROW.itemsize:
            raise _damaged(key, f"it says {count} entries, and has not as many")
        rows = np.frombuffer(payload, SEGMENT_ROW, offset=_HEAD.size)
        check_rows(base, rows, data_bytes, key)
        return cls(base, rows, data_bytes, data_sum, used)

    def with_data(self, frame: Readable, key: str) -> Segment:
        """Return the segment, given its second frame, which is the rest of the object.

        Raises CorruptionError, FormatError.
        """
        if xxhash.xxh3_128_digest(memoryview(frame)[: sealed.HEADER_BYTES]) != self.data_sum:
            raise _damaged(key, "what the entries wrote is not what the index says")
        data = sealed.unseal(_DATA, frame, key, self.data_bytes)
        if len(data) != self.data_bytes:
            raise _damaged(key, f"the entries wrote {self.data_bytes} bytes, not {len(data)}")
        return Segment(self.base, self.rows, memoryview(data))


@dataclass(frozen=True, eq=False)
class Segment:
    """Entries that follow each other in a journal, and what they wrote.

    Attributes
    ----------
    base : int
        The state after which they come: the last entry of the segment before, or where an archive
        begins.
    rows : ndarray
        SEGMENT_ROW[n], n > 0, rising by seq. As ``store.journal.entries``, and `position`: where in
        `data` the bytes begin that a WRITE wrote, or a MARK's text; all ones for what has none. A
        REWIND's is the seq of the entry that it follows, whose state it makes again. Seqs are
        missing only before a REWIND, which has dropped those entries.
    data : memoryview
        uint8, one entry's bytes after the other's.
    """

    base: int
    rows: Rows
    data: memoryview

    @property
    def first(self) -> int:
        """The seq of its first entry."""
        return int(self.rows[0]["seq"])

    @property
    def last(self) -> int:
        """The seq of its last entry."""
        return int(self.rows[-1]["seq"])

    @property
    def time_ns(self) -> int:
        """When its last entry was made, in nanoseconds since 1970-01-01 UTC."""
        return int(self.rows[-1]["time_ns"])

    @property
    def low(self) -> int:
        """The lowest state that one of its rewinds goes back to; -1: there is none."""
        states = self.rows["position"][self.rows["kind"] == _REWIND]
        return int(states.min()) if states.size else -1

    def written(self, row: np.void) -> memoryview:
        """Return what an entry, one of `rows`, wrote; nothing where it has no bytes here."""
        if row["kind"] not in (_WRITE, _MARK):
            return self.data[:0]
        start = int(row["position"])
        return self.data[start : start + int(row["length"])]

    def to_parts(self, *, compress: bool = True) -> tuple[bytes, bytes]:
        """Return both frames, which one after the other are the object."""
        data = sealed.seal(_DATA, self.data, compress=compress)
        data_sum = xxhash.xxh3_128_digest(data[: sealed.HEADER_BYTES])
        head = _HEAD.pack(self.base, self.rows.size, len(self.data), data_sum)
        rows = np.ascontiguousarray(self.rows).tobytes()
        return sealed.seal(_INDEX, head + rows, compress=compress), data

    def to_bytes(self, *, compress: bool = True) -> bytes:
        """Return the object."""
        return b"".join(self.to_parts(compress=compress))

    @classmethod
    def parse_head(cls, body: Readable, key: str) -> Index:
        """Return what the first frame says. Takes and raises as `Index.parse`."""
        return Index.parse(body, key)

    @classmethod
    def parse(cls, body: Readable, key: str) -> Segment:
        """Return the segment that an object holds. Raises as `Index.parse`."""
        index = Index.parse(body, key)
        return index.with_data(memoryview(body)[index.frame_bytes :], key)


def check_rows(base: int, rows: Rows, data_bytes: int, key: str) -> None:
    """Raise CorruptionError where rows say what no journal says.

    Whether they fit the volumes is not known here; see `check_volumes`.
    """
    if not 0 < rows.size <= ROWS_MOST:
        raise _damaged(key, f"it says {rows.size} entries; there are 1 to {ROWS_MOST}")
    seqs, kinds, lengths = rows["seq"], rows["kind"], rows["length"].astype(np.uint64)
    before = np.concatenate([np.array([base], np.uint64), seqs[:-1]])
    has_bytes, rewinds = (kinds == _WRITE) | (kinds == _MARK), kinds == _REWIND
    changes = kinds <= _ZEROES
    at = np.cumsum(np.where(has_bytes, lengths, 0), dtype=np.uint64)
    starts = at - np.where(has_bytes, lengths, 0).astype(np.uint64)
    wrong = {
        "seq": (seqs <= before) | (seqs >= _SEQ_LIMIT) | ((seqs != before + 1) & ~rewinds),
        "kind": (kinds < _WRITE) | (kinds > _REWIND),
        "time": np.concatenate([[False], rows["time_ns"][1:] < rows["time_ns"][:-1]]),
        "range": (lengths > _LENGTH_MOST)
        | ((lengths == 0) == (changes | (kinds == _MARK)))
        | ~changes & (rows["volume"] != 0)
        | ~(changes | rewinds) & (rows["offset"] != 0)
        | changes & (rows["offset"] >= _SEQ_LIMIT),
        "state": rewinds & ((rows["offset"] >= seqs) | (rows["position"] > rows["offset"])),
        "position": np.where(
            has_bytes, rows["position"] != starts, ~rewinds & (rows["position"] != NOTHING)
        ),
    }
    for what, where in wrong.items():
        if where.any():
            raise _damaged(key, f"the {what} of entry {int(seqs[where.argmax()])} cannot be")
    if base >= _SEQ_LIMIT or int(at[-1]) != data_bytes or data_bytes > DATA_MOST:
        raise _damaged(key, f"the entries after {base} wrote {int(at[-1])} bytes, not {data_bytes}")


def check_volumes(rows: Rows, sizes: Sequence[int], key: str) -> None:
    """Raise CorruptionError where an entry lies outside the volumes, whose sizes are in bytes."""
    changes = rows[rows["kind"] <= _ZEROES]
    known = np.array([*sizes, 0], np.uint64)
    size = known[np.minimum(changes["volume"], len(sizes))]
    lengths = changes["length"]
    outside = (lengths > size) | (changes["offset"] > size - np.minimum(lengths, size))
    if outside.any():
        seq = int(changes["seq"][outside.argmax()])
        raise _damaged(key, f"the range of entry {seq} does not lie inside its volume")


def _damaged(key: str, what: str) -> CorruptionError:
    return CorruptionError(f"{key} is damaged: {what}")
