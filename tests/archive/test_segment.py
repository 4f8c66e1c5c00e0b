"""Segments: what was put in comes back; damage and forgeries do not pass."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from jrnl import Kind
from jrnl.archive import sealed
from jrnl.archive.segment import (
    DATA_MOST,
    NOTHING,
    ROWS_MOST,
    SEGMENT_ROW,
    Segment,
    check_volumes,
)
from jrnl.errors import CorruptionError, FormatError

HEAD = struct.Struct("<QQQ16s")
KEY = "seg/00000001-1"


def small() -> Segment:
    rows = [
        (4, 100, Kind.WRITE, 0, 10, 3, 0),
        (5, 100, Kind.DISCARD, 1, 512, 1024, NOTHING),
        (6, 101, Kind.MARK, 0, 0, 2, 3),
        (7, 102, Kind.FLUSH, 0, 0, 0, NOTHING),
        (12, 103, Kind.REWIND, 0, 5, 0, 5),
        (13, 103, Kind.ZEROES, 0, 0, 1, NOTHING),
        (14, 104, Kind.WRITE, 1, 0, 4, 5),
    ]
    return Segment(3, np.array(rows, SEGMENT_ROW), memoryview(b"abcm1efgh"))


def same(one: Segment, other: Segment) -> bool:
    rows = one.rows.tolist() == other.rows.tolist()
    return one.base == other.base and rows and bytes(one.data) == bytes(other.data)


def forged(base: int, rows: np.ndarray, data: bytes, count: int | None = None) -> bytes:
    """What somebody makes who can sum, but is no store."""
    frame = sealed.seal(b"segdata", data)
    data_sum = xxhash.xxh3_128_digest(frame[: sealed.HEADER_BYTES])
    head = HEAD.pack(base, len(rows) if count is None else count, len(data), data_sum)
    return sealed.seal(b"seghead", head + rows.tobytes()) + frame


@pytest.mark.parametrize("compress", [True, False])
def test_what_was_put_in_comes_back(compress):
    segment = small()
    found = Segment.parse(segment.to_bytes(compress=compress), KEY)
    assert same(found, segment)
    assert (found.base, found.first, found.last, found.time_ns, found.low) == (3, 4, 14, 104, 5)
    assert [bytes(found.written(row)) for row in found.rows] == [
        b"abc", b"", b"m1", b"", b"", b"", b"efgh",
    ]  # fmt: skip


def test_a_segment_without_rewinds_has_no_low():
    segment = small()
    assert Segment(3, segment.rows[:4], segment.data[:5]).low == -1


def test_its_first_part_is_read_alone_and_the_second_one_added():
    segment = small()
    head, data = segment.to_parts()
    index = Segment.parse_head(head + data[:9], KEY)
    assert index.rows.tolist() == segment.rows.tolist()
    assert index.frame_bytes == len(head)
    assert same(index.with_data(data, KEY), segment)


def test_what_another_segment_wrote_is_not_taken_for_its_own():
    one = small()
    other = Segment(one.base, one.rows, memoryview(b"ABCM1EFGH"))
    head, data = one.to_parts()[0], other.to_parts()[1]
    with pytest.raises(CorruptionError, match=KEY):
        Segment.parse(head + data, KEY)


@pytest.mark.parametrize("compress", [True, False])
def test_any_flipped_bit_and_any_cut_is_noticed(compress):
    body = small().to_bytes(compress=compress)
    for bit in range(8 * len(body)):
        bad = bytearray(body)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CorruptionError, FormatError), match=KEY):
            Segment.parse(bytes(bad), KEY)
    for length in range(len(body)):
        with pytest.raises(CorruptionError, match=KEY):
            Segment.parse(body[:length], KEY)
    with pytest.raises(CorruptionError, match=KEY):
        Segment.parse(body + b"\0", KEY)


FORGERIES = [
    (0, "seq", 3), (0, "seq", 5), (1, "seq", 4), (6, "seq", 15), (6, "seq", 1 << 63),
    (0, "kind", 0), (0, "kind", 7), (1, "kind", Kind.WRITE), (2, "kind", Kind.FLUSH),
    (3, "time_ns", 100), (0, "length", 0), (0, "length", 2), (0, "length", 1 << 32),
    (0, "length", (1 << 64) - 1), (1, "length", 1 << 32), (1, "length", 0), (2, "length", 0),
    (3, "length", 1), (4, "length", 1), (2, "volume", 1), (3, "volume", 1), (4, "volume", 1),
    (2, "offset", 1), (3, "offset", 1), (4, "offset", 12), (4, "offset", 4), (4, "position", 6),
    (0, "offset", 1 << 63), (0, "position", 1), (0, "position", NOTHING), (1, "position", 0),
    (3, "position", 0), (6, "position", 4), (6, "position", 1 << 63),
]  # fmt: skip


@pytest.mark.parametrize(("row", "field", "value"), FORGERIES)
def test_rows_that_no_journal_has_are_refused_though_their_sums_match(row, field, value):
    segment = small()
    rows = segment.rows.copy()
    assert same(Segment.parse(forged(3, rows, bytes(segment.data)), KEY), segment)
    rows[row][field] = value
    with pytest.raises(CorruptionError, match=KEY):
        Segment.parse(forged(3, rows, bytes(segment.data)), KEY)


def test_a_forged_number_of_entries_or_bytes_is_refused():
    segment = small()
    data = bytes(segment.data)
    for body in (
        forged(3, segment.rows, data, 8),
        forged(3, segment.rows, data, 1 << 61),
        forged(3, segment.rows[:0], b""),
        forged(3, segment.rows, data + b"x"),
        forged(3, segment.rows, data[:-1]),
        forged(4, segment.rows, data),
        forged(1 << 63, segment.rows, data),
        sealed.seal(b"seghead", b"short") + sealed.seal(b"segdata", b""),
    ):
        with pytest.raises(CorruptionError, match=KEY):
            Segment.parse(body, KEY)


def test_what_would_take_much_memory_is_refused_before_it_does():
    rows = np.zeros(ROWS_MOST + 1, SEGMENT_ROW)
    rows["seq"], rows["kind"], rows["position"] = range(1, rows.size + 1), Kind.FLUSH, NOTHING
    with pytest.raises(CorruptionError, match=KEY):
        Segment.parse(forged(0, rows, b""), KEY)
    Segment.parse(forged(0, rows[:-1], b""), KEY)
    frame = sealed.seal(b"segdata", b"")
    long = np.array([(1, 0, Kind.WRITE, 0, 0, DATA_MOST + 1, 0)], SEGMENT_ROW)
    head = HEAD.pack(0, 1, DATA_MOST + 1, xxhash.xxh3_128_digest(frame[: sealed.HEADER_BYTES]))
    with pytest.raises(CorruptionError, match=KEY):
        Segment.parse(sealed.seal(b"seghead", head + long.tobytes()) + frame, KEY)


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [(0, "volume", 2), (0, "offset", 998), (0, "offset", 1 << 62), (1, "length", 2000),
     (1, "volume", 65535), (5, "offset", 1000), (6, "offset", 1997)],
)  # fmt: skip
def test_a_range_outside_the_volumes_is_refused(row, field, value):
    rows = small().rows.copy()
    check_volumes(rows, [1000, 2000], KEY)
    rows[row][field] = value
    with pytest.raises(CorruptionError, match=KEY):
        check_volumes(rows, [1000, 2000], KEY)


def is_history(segment: Segment) -> bool:
    """What the docstring of Segment promises, row by row."""
    before, at, time_ns = segment.base, 0, None
    for seq, when, kind, volume, offset, length, position in segment.rows.tolist():
        good = seq > before and (seq == before + 1 or kind == Kind.REWIND)
        good = good and (time_ns is None or when >= time_ns)
        if kind in (Kind.WRITE, Kind.MARK):
            good = good and position == at and length > 0
            at += length
        elif kind == Kind.REWIND:
            good = good and position <= offset < seq and length == 0
        else:
            good = good and position == NOTHING and (length > 0) == (kind != Kind.FLUSH)
        if kind not in (Kind.WRITE, Kind.DISCARD, Kind.ZEROES):
            good = good and volume == 0
        if not good:
            return False
        before, time_ns = seq, when
    return at == len(segment.data)


@given(st.lists(st.integers(0, 7 * SEGMENT_ROW.itemsize * 8 - 1), min_size=1, max_size=3))
def test_whatever_is_forged_is_refused_or_a_history(bits):
    segment = small()
    raw = bytearray(segment.rows.tobytes())
    for bit in bits:
        raw[bit // 8] ^= 1 << bit % 8
    body = forged(3, np.frombuffer(bytes(raw), SEGMENT_ROW), bytes(segment.data))
    try:
        found = Segment.parse(body, KEY)
    except CorruptionError:
        return
    assert is_history(found)
