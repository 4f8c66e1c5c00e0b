"""The table of a snapshot: which chunk of which pack holds what of which volume."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from jrnl.archive import sealed
from jrnl.errors import ArchiveError, CorruptionError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterable, Sequence
    from typing import Any

    from jrnl.archive.objects import Objects

PIECE_BYTES = 1 << 16  # a chunk is no longer, and a row crosses no multiple of it
TABLE_MOST = 1 << 31  # bytes of a table's payload: content of about 1.8 TiB
PACK_MOST = 1 << 30
ROW = np.dtype(
    [("volume", "<u2"), ("offset", "<u8"), ("length", "<u4"), ("chunk", "<u4"), ("skip", "<u4")]
)
CHUNK = np.dtype(
    [("hash", "u1", 32), ("pack", "<u4"), ("position", "<u8"), ("stored", "<u4"), ("length", "<u4")]
)

_KIND = b"table"
_COUNTS = struct.Struct("<QQQ")
_PACK = np.dtype([("epoch", "<u8"), ("number", "<u8"), ("bytes", "<u8"), ("sum", "V16")])
_BYTE_LIMIT = 1 << 63
_EPOCH_DIGITS, _NUMBER_DIGITS = 8, 12

Rows = NDArray[np.void]
Chunks = NDArray[np.void]


class Pack(NamedTuple):
    """An object that holds chunks: its number, its length and its XXH3-128, as a whole."""

    epoch: int
    number: int
    bytes: int
    sum: builtins.bytes

    @property
    def key(self) -> str:
        """Its key in the archive."""
        return pack_key(self.epoch, self.number)


def pack_key(epoch: int, number: int) -> str:
    """Return the key of a pack."""
    return f"pack/{epoch:0{_EPOCH_DIGITS}d}-{number:0{_NUMBER_DIGITS}d}"


def hash_of(content: bytes | memoryview) -> bytes:
    """Return what a chunk is known by: SHA-256 of its bytes, unpacked."""
    return hashlib.sha256(content).digest()


class Table:
    """What a snapshot holds. What no row covers is zero.

    Attributes
    ----------
    rows : ndarray of ROW
        Sorted by volume and offset, apart. A row says that `length` bytes at `offset` are those of
        a chunk from its byte `skip` on.
    chunks : ndarray of CHUNK
        A chunk is `stored` bytes at `position` of a pack, and `length` bytes unpacked.
    packs : tuple of Pack
    """

    __slots__ = ("_offsets", "chunks", "packs", "rows")

    def __init__(self, rows: Rows, chunks: Chunks, packs: Iterable[Pack]) -> None:
        self.rows, self.chunks, self.packs = rows, chunks, tuple(packs)
        self._offsets: dict[int, tuple[int, NDArray[np.uint64]]] = {}

    def __repr__(self) -> str:
        return f"<Table: {self.rows.size} rows, {self.chunks.size} chunks, {len(self.packs)} packs>"

    @property
    def packed_bytes(self) -> int:
        """Bytes that its chunks take in their packs."""
        return int(self.chunks["stored"].sum(dtype=np.int64))

    # To bytes and back.

    def to_bytes(self) -> bytes:
        """Return it as one frame; docs/format.md has what is in it.

        Raises
        ------
        ArchiveError
            It is too large for one object: the volumes hold more than about 1.8 TiB.
        """
        packs = np.array([(p.epoch, p.number, p.bytes, p.sum) for p in self.packs], _PACK)
        payload = b"".join(
            (_COUNTS.pack(self.rows.size, self.chunks.size, packs.size),
             *(column.tobytes() for column in _columns(self.rows, self.chunks, packs)))
        )  # fmt: skip
        if len(payload) > TABLE_MOST:
            raise ArchiveError(
                f"a snapshot's table takes {len(payload)} bytes, of at most {TABLE_MOST}: the "
                "volumes hold too much for one archive"
            )
        return sealed.seal(_KIND, payload)

    @classmethod
    def parse(cls, body: bytes, key: str, sizes: Sequence[int] | None = None) -> Self:
        """Return what an object says, checked: every row, chunk and pack is one that can be.

        Parameters
        ----------
        body : bytes
        key : str
            The object, for messages.
        sizes : sequence of int, optional
            Bytes of each volume; no row goes beyond.

        Raises
        ------
        CorruptionError
            It is damaged, or says what cannot be.
        FormatError
        """
        payload = sealed.unseal(_KIND, body, key, TABLE_MOST)
        if len(payload) < _COUNTS.size:
            raise CorruptionError(f"{key} is damaged: it ends in its counts")
        counts = _COUNTS.unpack_from(payload)
        widths = (_width(ROW), _width(CHUNK), _width(_PACK))
        wanted = _COUNTS.size + sum(n * width for n, width in zip(counts, widths, strict=True))
        if len(payload) != wanted:
            raise CorruptionError(
                f"{key} is damaged: {len(payload)} bytes of {wanted} by its counts"
            )
        rows, chunks, packs = _unpacked(payload, counts)
        for wrong in (_wrong_packs(packs), _wrong_chunks(chunks, packs),
                      _wrong_rows(rows, chunks, sizes)):  # fmt: skip
            if wrong:
                raise CorruptionError(f"{key} is damaged: {wrong}")
        return cls(rows, chunks, [Pack(*pack) for pack in packs.tolist()])

    # Reading.

    def find(self, volume: int, offset: int, length: int) -> Rows:
        """Return what a range is made of: rows cut to it. What they leave out is zero."""
        first, offsets = self._offsets_of(volume)
        stop = offset + length
        low = first + max(int(np.searchsorted(offsets, offset, "right")) - 1, 0)
        high = first + int(np.searchsorted(offsets, stop, "left"))
        found = self.rows[low : max(low, high)].copy()
        if not found.size:
            return found
        begins, ends = int(found["offset"][0]), int(found["offset"][0]) + int(found["length"][0])
        if ends <= offset:
            found = found[1:]
        elif begins < offset:
            found["offset"][0] = offset
            found["skip"][0] += offset - begins
            found["length"][0] = ends - offset
        if found.size:
            found["length"][-1] = min(int(found["length"][-1]), stop - int(found["offset"][-1]))
        return found

    def _offsets_of(self, volume: int) -> tuple[int, NDArray[np.uint64]]:
        """Return the index of a volume's first row, and the offsets of its rows in a row."""
        found = self._offsets.get(volume)
        if found is None:
            first, last = np.searchsorted(self.rows["volume"], (volume, volume + 1)).tolist()
            offsets = np.ascontiguousarray(self.rows["offset"][first:last])
            found = self._offsets[volume] = first, offsets
        return found

    def read(self, objects: Objects, wanted: Sequence[int]) -> list[bytes | memoryview]:
        """Return chunks by their indices, each held against its hash.

        Those of one pack are asked for together, near ones by one request. What was not packed is
        not copied: all that came with it stays in memory as long as it does.

        Raises
        ------
        CorruptionError
            A chunk is not what it was; names the pack.
        ArchiveError
            Among others ObjectMissing.
        """
        found: dict[int, bytes | memoryview] = {}
        chosen = np.unique(np.asarray(wanted, np.int64))
        packs = self.chunks["pack"][chosen]
        for pack in np.unique(packs).tolist():
            some = chosen[packs == pack]
            key = self.packs[pack].key
            ranges = self.chunks[some][["position", "stored"]].tolist()
            for index, stored in zip(some.tolist(), objects.get_ranges(key, ranges), strict=True):
                found[index] = self.unpack(index, stored)
        return [found[index] for index in wanted]

    def read_pack(
        self, objects: Objects, pack: int, wanted: Sequence[int]
    ) -> list[bytes | memoryview]:
        """Return chunks of one pack, which is read whole and held against its sum.

        That is less work than a hash of each. Raises as `read`.
        """
        facts = self.packs[pack]
        [body] = objects.get_ranges(facts.key, [(0, facts.bytes)])
        check_pack(facts, body)
        places = self.chunks[wanted][["position", "stored"]].tolist()
        return [
            self._content(index, body[start : start + stored])
            for index, (start, stored) in zip(wanted, places, strict=True)
        ]

    def unpack(self, index: int, stored: bytes | memoryview) -> bytes | memoryview:
        """Return a chunk, of what its pack holds for it. Raises CorruptionError."""
        content = self._content(index, stored)
        if hash_of(content) != self.chunks["hash"][index].tobytes():
            raise CorruptionError(f"{self._name(index)} is damaged: it does not match its hash")
        return content

    def _content(self, index: int, stored: bytes | memoryview) -> bytes | memoryview:
        length = int(self.chunks["length"][index])
        if len(stored) == length:
            return stored
        return sealed.unpack(stored, length, self._name(index))

    def _name(self, index: int) -> str:
        chunk = self.chunks[index]
        return f"{self.packs[int(chunk['pack'])].key}, chunk at {int(chunk['position'])},"


def read_chunk(objects: Objects, table: Table, chunk: int) -> bytes | memoryview:
    """Return one chunk, held against its hash. Raises as `Table.read`."""
    return table.read(objects, [chunk])[0]


def check_pack(pack: Pack, body: bytes | memoryview) -> None:
    """Raise CorruptionError unless `body` is all of a pack."""
    if len(body) != pack.bytes or xxhash.xxh3_128_digest(body) != pack.sum:
        raise CorruptionError(f"{pack.key} is damaged: it does not match its checksum")


# Columns, each as the difference from what the one before lets expect: most of them are zero then,
# and pack well. All arithmetic wraps around.


def _columns(rows: Rows, chunks: Chunks, packs: NDArray[np.void]) -> Iterable[NDArray[Any]]:
    yield _steps(rows["volume"])
    yield _gaps(rows["offset"], rows["length"])
    yield rows["length"]
    yield _steps(rows["chunk"])
    yield rows["skip"]
    yield chunks["hash"]
    yield _steps(chunks["pack"])
    yield _gaps(chunks["position"], chunks["stored"])
    yield chunks["stored"]
    yield chunks["length"]
    for name in ("epoch", "number", "bytes", "sum"):
        yield packs[name]


def _unpacked(payload: bytes, counts: tuple[int, ...]) -> tuple[Rows, Chunks, NDArray[np.void]]:
    rows, chunks, packs = (
        np.empty(count, dtype) for count, dtype in zip(counts, (ROW, CHUNK, _PACK), strict=True)
    )
    place = _COUNTS.size
    for array in (rows, chunks, packs):
        assert array.dtype.names is not None
        for name in array.dtype.names:
            dtype = array.dtype[name]
            column = np.frombuffer(payload, dtype.base, array[name].size, place)
            array[name] = column.reshape(array[name].shape)
            place += column.nbytes
    for steps in (rows["volume"], rows["chunk"], chunks["pack"]):
        np.cumsum(steps.copy(), dtype=steps.dtype, out=steps)
    _fill_gaps(rows["offset"], rows["length"])
    _fill_gaps(chunks["position"], chunks["stored"])
    return rows, chunks, packs


def _steps(column: NDArray[Any]) -> NDArray[Any]:
    steps = column.copy()
    steps[1:] -= column[:-1]
    return steps


def _gaps(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    gaps = starts.copy()
    gaps[1:] -= starts[:-1] + lengths[:-1]
    return gaps


def _fill_gaps(gaps: NDArray[Any], lengths: NDArray[Any]) -> None:
    steps = gaps.copy()
    steps[1:] += lengths[:-1]
    np.cumsum(steps, dtype=gaps.dtype, out=gaps)


def _width(dtype: np.dtype[np.void]) -> int:
    return dtype.itemsize


# What is wrong with one that somebody else may have written; empty where nothing is.


def _wrong_packs(packs: NDArray[np.void]) -> str:
    if (packs["bytes"] > PACK_MOST).any() or (packs["bytes"] < sealed.HEADER_BYTES).any():
        return "a pack of a size that none has"
    if (packs["epoch"] >= _BYTE_LIMIT).any() or (packs["number"] >= _BYTE_LIMIT).any():
        return "a pack of a number that none has"
    if np.unique(packs[["epoch", "number"]]).size != packs.size:
        return "a pack is named twice"
    return ""


def _wrong_chunks(chunks: Chunks, packs: NDArray[np.void]) -> str:
    if (chunks["pack"] >= packs.size).any():
        return "a chunk in a pack that it does not name"
    length, stored, position = chunks["length"], chunks["stored"], chunks["position"]
    if (length > PIECE_BYTES).any() or (length == 0).any():
        return "a chunk of a length that none has"
    if (stored > length).any() or (stored == 0).any():
        return "a chunk that takes more than its length"
    ends = packs["bytes"][chunks["pack"]]
    if (position < sealed.HEADER_BYTES).any() or (position > ends).any():
        return "a chunk outside of its pack"
    if (position + stored > ends).any():
        return "a chunk outside of its pack"
    return ""


def _wrong_rows(rows: Rows, chunks: Chunks, sizes: Sequence[int] | None) -> str:
    if (rows["chunk"] >= chunks.size).any():
        return "a row of a chunk that it does not name"
    offset, length, skip = rows["offset"], rows["length"], rows["skip"]
    if (offset >= _BYTE_LIMIT).any() or (length == 0).any() or (length > PIECE_BYTES).any():
        return "a row of an offset or a length that none has"
    stop = offset + length
    if (offset // PIECE_BYTES != (stop - 1) // PIECE_BYTES).any():
        return "a row across a multiple of 64 KiB"
    if (skip.astype(np.uint64) + length > chunks["length"][rows["chunk"]]).any():
        return "a row that goes beyond its chunk"
    same = rows["volume"][1:] == rows["volume"][:-1]
    if (rows["volume"][1:] < rows["volume"][:-1]).any() or (offset[1:] < stop[:-1])[same].any():
        return "rows that overlap, or are out of order"
    if sizes is not None:
        if rows.size and int(rows["volume"][-1]) >= len(sizes):
            return "a row of a volume that the store does not have"
        ends = np.array([*sizes, 0], np.uint64)
        if (stop > ends[rows["volume"]]).any():
            return "a row beyond the end of its volume"
    return ""
