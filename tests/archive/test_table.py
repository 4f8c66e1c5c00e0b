"""Tables that somebody else may have written: what cannot be is refused, whatever its checksums."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jrnl.archive import sealed
from jrnl.archive.table import CHUNK, ROW, Pack, Table
from jrnl.errors import CorruptionError, FormatError

KEY = "snap/00000001-1-1"
PIECE = 1 << 16
SIZES = [10 * PIECE + 100, 0, 5000]
PACKS = [Pack(1, 7, 300_000, bytes(range(16))), Pack(2, 1, 64 + 5000, bytes(16))]


def table():
    chunks = np.zeros(4, CHUNK)
    chunks["hash"] = np.arange(4 * 32, dtype=np.uint8).reshape(4, 32)
    chunks["pack"] = [0, 0, 0, 1]
    chunks["position"] = [64, 64 + PIECE, 64 + PIECE + 100, 64]
    chunks["stored"] = [PIECE, 100, 1, 5000]
    chunks["length"] = [PIECE, 4096, 100, 5000]
    rows = np.zeros(6, ROW)
    rows["volume"] = [0, 0, 0, 0, 0, 2]
    rows["offset"] = [0, 4096, 8192, 2 * PIECE, 10 * PIECE, 0]
    rows["length"] = [4096, 4096, PIECE - 8192, PIECE, 100, 5000]
    rows["chunk"] = [0, 1, 0, 0, 2, 3]
    rows["skip"] = [0, 0, 8192, 0, 0, 0]
    return Table(rows, chunks, PACKS)


def parsed(made):
    return Table.parse(made.to_bytes(), KEY, SIZES)


def test_a_table_comes_back():
    wanted = table()
    found = parsed(wanted)
    assert np.array_equal(found.rows, wanted.rows)
    assert np.array_equal(found.chunks, wanted.chunks)
    assert found.packs == wanted.packs
    assert found.packed_bytes == PIECE + 100 + 1 + 5000
    assert found.packs[0].key == "pack/00000001-000000000007"
    assert found.rows.flags.writeable  # of its own


def test_an_empty_table_comes_back():
    empty = parsed(Table(np.empty(0, ROW), np.empty(0, CHUNK), ()))
    assert empty.rows.size == empty.chunks.size == len(empty.packs) == 0
    assert empty.find(0, 0, 100).size == 0


def test_any_flipped_bit_is_noticed():
    body = table().to_bytes()
    for bit in range(8 * len(body)):
        bad = bytearray(body)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptionError, match=KEY):
            Table.parse(bytes(bad), KEY, SIZES)
    for length in range(0, len(body), 7):
        with pytest.raises(CorruptionError, match=KEY):
            Table.parse(body[:length], KEY, SIZES)


MAX = {"u1": 0xFF, "u2": 0xFFFF, "u4": (1 << 32) - 1, "u8": (1 << 64) - 1}
FORGED = [
    ("rows", "volume", 5, 3, "does not have"),
    ("rows", "volume", 5, 0xFFFF, "does not have"),
    ("rows", "volume", 5, 0, "out of order"),
    ("rows", "volume", 5, 1, "end of its volume"),
    ("rows", "offset", 1, 4095, "out of order"),
    ("rows", "offset", 1, 1 << 63, "an offset"),
    ("rows", "offset", 1, MAX["u8"], "an offset"),
    ("rows", "offset", 4, 10 * PIECE + 1, "end of its volume"),
    ("rows", "offset", 3, PIECE - 1, "across"),
    ("rows", "offset", 5, 1, "end of its volume"),
    ("rows", "length", 0, 0, "a length"),
    ("rows", "length", 0, MAX["u4"], "a length"),
    ("rows", "length", 0, PIECE + 1, "a length"),
    ("rows", "length", 1, 5000, "beyond its chunk"),
    ("rows", "length", 0, 4097, "out of order"),
    ("rows", "chunk", 0, 4, "a chunk that"),
    ("rows", "chunk", 0, MAX["u4"], "a chunk that"),
    ("rows", "skip", 3, 1, "beyond its chunk"),
    ("rows", "skip", 3, MAX["u4"], "beyond its chunk"),
    ("chunks", "pack", 0, 2, "does not name"),
    ("chunks", "pack", 0, MAX["u4"], "does not name"),
    ("chunks", "position", 0, 63, "outside of its pack"),
    ("chunks", "position", 0, 300_001 - PIECE, "outside of its pack"),
    ("chunks", "position", 0, MAX["u8"] - PIECE + 1, "outside of its pack"),
    ("chunks", "position", 3, 65, "outside of its pack"),
    ("chunks", "stored", 0, 0, "takes more"),
    ("chunks", "stored", 0, PIECE + 1, "takes more"),
    ("chunks", "stored", 1, 5000, "takes more"),
    ("chunks", "length", 0, 0, "a length that none"),
    ("chunks", "length", 0, PIECE + 1, "a length that none"),
    ("chunks", "length", 1, 4095, "beyond its chunk"),
]


@pytest.mark.parametrize(("part", "name", "index", "value", "said"), FORGED)
def test_what_cannot_be_is_refused_though_its_checksums_are_right(part, name, index, value, said):
    bad = table()
    getattr(bad, part)[name][index] = value
    with pytest.raises(CorruptionError, match=f"{KEY}.*{said}"):
        parsed(bad)


@pytest.mark.parametrize(
    ("packs", "said"),
    [
        ([PACKS[0], PACKS[0]], "twice"),
        ([PACKS[0]._replace(bytes=1 << 40), PACKS[1]], "a size"),
        ([PACKS[0]._replace(bytes=63), PACKS[1]], "a size"),
        ([PACKS[0]._replace(bytes=64), PACKS[1]], "outside"),
        ([PACKS[0]._replace(epoch=1 << 63), PACKS[1]], "a number"),
        ([PACKS[0]._replace(number=MAX["u8"]), PACKS[1]], "a number"),
    ],
)
def test_packs_that_cannot_be_are_refused(packs, said):
    bad = table()
    with pytest.raises(CorruptionError, match=f"{KEY}.*{said}"):
        parsed(Table(bad.rows, bad.chunks, packs))


def test_without_sizes_a_row_may_lie_anywhere():
    far = table()
    far.rows["offset"][4] = (1 << 62) // PIECE * PIECE
    body = far.to_bytes()
    assert Table.parse(body, KEY).rows["offset"][4] == far.rows["offset"][4]
    with pytest.raises(CorruptionError):
        Table.parse(body, KEY, SIZES)


def test_counts_are_held_against_the_length():
    body = table().to_bytes()
    payload = bytearray(sealed.unseal(b"table", body, KEY, 1 << 20))
    for place in (0, 8, 16):
        for change in (1, 2, 255):
            bad = payload.copy()
            bad[place] = (bad[place] + change) % 256
            with pytest.raises(CorruptionError, match=KEY):
                Table.parse(sealed.seal(b"table", bad), KEY, SIZES)
        bad = payload.copy()
        bad[place + 7] = 0xFF
        with pytest.raises(CorruptionError, match="counts"):
            Table.parse(sealed.seal(b"table", bad), KEY, SIZES)
    for short in (b"", bytes(23), payload[:-1], payload + b"\0"):
        with pytest.raises(CorruptionError, match="counts"):
            Table.parse(sealed.seal(b"table", short), KEY, SIZES)


def test_another_object_is_no_table():
    with pytest.raises(CorruptionError, match="table"):
        Table.parse(sealed.seal(b"manifest", bytes(24)), KEY, SIZES)
    with pytest.raises((CorruptionError, FormatError)):
        Table.parse(b"", KEY, SIZES)


def test_any_bytes_parse_or_are_refused(seed):
    dice = random.Random(seed)
    payload = sealed.unseal(b"table", table().to_bytes(), KEY, 1 << 20)
    for _ in range(2000):
        bad = bytearray(payload)
        for _ in range(dice.choice([1, 2, 5])):
            bad[dice.randrange(24, len(bad))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF])
        try:
            found = Table.parse(sealed.seal(b"table", bad), KEY, SIZES)
        except CorruptionError:
            continue
        for volume, size in enumerate(SIZES):
            rows = found.find(volume, 0, size)
            assert int(rows["length"].astype(np.int64).sum()) <= size
            for row in rows:
                chunk = found.chunks[int(row["chunk"])]
                assert int(row["skip"]) + int(row["length"]) <= int(chunk["length"])
