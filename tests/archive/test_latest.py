"""What entries wrote last, told from their rows alone: against bytes in memory."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jrnl import Kind
from jrnl.archive.latest import ZERO, last_cover, latest
from jrnl.archive.segment import SEGMENT_ROW

SIZES = (97, 40)
NOTHING = (1 << 64) - 1

writes = st.tuples(
    st.sampled_from([Kind.WRITE, Kind.WRITE, Kind.WRITE, Kind.DISCARD, Kind.ZEROES]),
    st.integers(0, 1),
    st.integers(0, 96),
    st.integers(1, 97),
)
others = st.tuples(st.sampled_from([Kind.MARK, Kind.FLUSH]), st.just(0), st.just(0), st.just(3))
rewinds = st.tuples(st.just(Kind.REWIND), st.integers(0, 30), st.integers(0, 2), st.just(0))
calls = st.lists(st.one_of(writes, writes, writes, others, rewinds), max_size=60)


def played(made):
    """The rows and data of calls, and all states that they lead to, in their order.

    A rewind to a rewind takes its place; that one may be nowhere.
    """
    rows, data, seq = [], bytearray(), 0
    states = {0: tuple(bytearray(size) for size in SIZES)}
    now = states[0]
    for kind, a, b, c in made:
        seq += 1
        offset = length = volume = 0
        position = NOTHING
        now = tuple(bytearray(each) for each in now)
        if kind == Kind.REWIND:
            there = [*states][-1 - a % len(states)]
            offset = position = there
            now = states[there]
            states = {known: state for known, state in states.items() if known <= there}
            if b:  # entries that were dropped before anybody took them, the last a rewind
                offset, seq = seq + b - 1, seq + b
                offset = max(offset, position)
        elif kind in (Kind.MARK, Kind.FLUSH):
            if kind == Kind.MARK:
                length, position = c, len(data)
                data += b"abc"
        else:
            volume, offset = a, b % SIZES[a]
            length = min(c, SIZES[a] - offset)
            content = bytes(length)
            if kind == Kind.WRITE:
                position, content = len(data), bytes([seq % 255 + 1]) * length
                data += content
            now[volume][offset : offset + length] = content
        rows.append((seq, seq, kind, volume, offset, length, position))
        states[seq] = now
    return np.array(rows, SEGMENT_ROW), bytes(data), states


@given(calls, st.lists(st.integers(0, 59), max_size=4), st.data())
def test_each_state_is_found_in_what_was_written_last(made, cuts, draw):
    rows, data, states = played(made)
    seq = draw.draw(st.sampled_from([*states]))
    bounds = [0, *sorted(min(cut, rows.size) for cut in cuts), rows.size]
    parts = [rows[a:b] for a, b in itertools.pairwise(bounds) if a < b]
    found = latest(parts, seq, len(SIZES))
    kept = [part.of(memoryview(data)) for part in found.kept]
    for volume, size in enumerate(SIZES):
        content = bytearray(size)
        end = 0
        for start, stop, segment, place in zip(
            *(column.tolist() for column in found.volumes[volume]), strict=True
        ):
            assert end <= start < stop <= size
            end = stop
            if segment != ZERO:
                content[start:stop] = kept[segment][place : place + stop - start]
        assert content == states[seq][volume]
    used = sum(
        int((each.stops - each.starts)[each.segments != ZERO].sum()) for each in found.volumes
    )
    assert used == sum(map(len, kept))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300)), max_size=40))
def test_the_last_range_that_covers_a_place_is_found(ranges):
    starts = np.array([start for start, _ in ranges], np.int64)
    stops = np.array([start + length for start, length in ranges], np.int64)
    edges, last = last_cover(starts, stops)
    told = np.full(700, -1)
    for k in range(last.size):
        told[edges[k] : edges[k + 1]] = last[k]
    want = np.full(700, -1)
    for k, (start, length) in enumerate(ranges):
        want[start : start + length] = k
    assert told.tolist() == want.tolist()


def test_ranges_that_a_range_touches_are_found():
    rows = np.array([(k + 1, 0, Kind.WRITE, 0, 20 * k, 10, 10 * k) for k in range(4)], SEGMENT_ROW)
    written = latest([rows], 4, 1).volumes[0]
    for start in range(90):
        for stop in range(start, 90):
            want = [k for k in range(4) if start < 20 * k + 10 and 20 * k < stop]
            assert [*range(4)][written.over(start, stop)] == want or start == stop
