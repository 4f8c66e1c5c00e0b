"""What happened, out of a million headers: by NumPy on `journal.entries`, what a user would do."""

import types

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BLOCK, MIB

pytestmark = pytest.mark.benchmark(disable_gc=True)

ENTRIES = 10_000 if workload.SMALL else 1_000_000
LENGTH = 64
SIZE = 4 * MIB if workload.SMALL else 256 * MIB


@pytest.fixture(scope="module")
def past():
    """Small writes all over a volume, so that a million fit; half a million later, a mark."""
    with jrnl.create(size=SIZE, journal=ENTRIES * 64 * 9) as store:
        rows = workload.rows(250, LENGTH)
        offsets = workload.offsets(0, ENTRIES, LENGTH, SIZE)
        for some in workload.batches(offsets, 250):
            store.volume.write_many(some, rows[: len(some)])
        assert store.window == (0, ENTRIES)
        yield types.SimpleNamespace(store=store, entries=lambda: store.journal.entries)


def merged(rows):
    """(starts, stops): the union of the rows' ranges, in one volume."""
    order = np.argsort(rows["offset"], kind="stable")
    starts = rows["offset"][order]
    stops = np.maximum.accumulate(starts + rows["length"][order])
    first = np.concatenate([[True], starts[1:] > stops[:-1]])
    last = np.concatenate([first[1:], [True]])
    return starts[first], stops[last]


def diff_by_hand(past):
    return merged(past.entries())


def history_by_hand(past):
    rows = past.entries()
    return rows[(rows["offset"] < BLOCK) & (rows["offset"] + rows["length"] > 0)]


def stats_by_hand(past):
    rows = past.entries()
    starts, stops = merged(rows[rows["kind"] == jrnl.Kind.WRITE])
    return int(rows["length"].sum()), int((stops - starts).sum())


def measure(benchmark, past, name, ours, by_hand):
    case = Case(tables.HISTORY, name, yardstick="NumPy on `entries`")
    race(benchmark, case, ours, yardstick=lambda: clocked(by_hand, past))


def test_diff(benchmark, past):
    measure(benchmark, past, "`diff`", lambda: past.store.diff(0, ENTRIES), diff_by_hand)
    extents = past.store.diff(0, ENTRIES)
    starts, stops = diff_by_hand(past)
    assert np.array_equal(extents["offset"], starts)
    assert np.array_equal(extents["offset"] + extents["length"], stops)


def test_exact_diff(benchmark, past):
    """The same, both states read and compared; by reading the same extents of production."""
    case = Case(tables.HISTORY, "`diff`, exact", yardstick="production read there")
    extents = past.store.diff(0, ENTRIES)[["offset", "length"]].tolist()
    volume = past.store.volume

    def read():
        for offset, length in extents:
            volume.read(offset, length)

    race(
        benchmark,
        case,
        lambda: past.store.diff(0, ENTRIES, exact=True),
        yardstick=lambda: clocked(read),
        rounds=5,
    )


def test_history(benchmark, past):
    name = "`history` of 4 KiB"
    measure(benchmark, past, name, lambda: past.store.history(0, BLOCK), history_by_hand)
    assert np.array_equal(past.store.history(0, BLOCK), history_by_hand(past))


def test_stats(benchmark, past):
    measure(benchmark, past, "`stats`", past.store.stats, stats_by_hand)
    stats = past.store.stats()
    assert (stats.bytes, stats.distinct_bytes) == stats_by_hand(past)
