"""Odd offsets and odd buffers: the same work at even ones just before is the yardstick."""

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BATCH, BLOCK, JOURNAL, MIB, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

TARGET = 1.2
ODD = 777  # bytes beside a block's boundary
HOT = MIB // 2  # bytes that stay in the cache
REWOUND = 100 if workload.SMALL else 1_000


@pytest.fixture(scope="module")
def store():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.evicting(store.volume)
        yield store


def case(name, count=WRITES):
    return Case(tables.ODD, name, count, target=TARGET, yardstick="even")


def even_and_odd(array):
    """`array` at a line's boundary, and behind an odd address."""
    both = []
    for shift in (0, 1):
        space = workload.buffer(array.nbytes + shift)[shift:]
        both.append(space.view(array.dtype).reshape(array.shape))
        both[-1][:] = array
    return both


def offsets(number, count=WRITES, size=VOLUME):
    return workload.offsets(number, count, BLOCK, size - BLOCK)


def write_each(volume, offsets, block):
    for offset in offsets:
        volume.write(offset, block)


def write_batches(volume, batches, rows):
    for some in batches:
        volume.write_many(some, rows)


@pytest.mark.parametrize(
    ("batch", "name"),
    [(1, "`write` at odd offsets"), (BATCH, f"`write_many` at odd offsets, {BATCH} a batch")],
)
def test_write_at_odd_offsets(benchmark, store, batch, name):
    write = workload.writing(batch)
    race(
        benchmark,
        case(name),
        lambda _, odd: write(store.volume, odd),
        prepare=lambda n: [workload.cut(offsets(n) + k, batch) for k in (0, ODD)],
        yardstick=lambda even, _: clocked(write, store.volume, even),
    )


def test_write_from_an_odd_buffer(benchmark, store):
    even, odd = map(memoryview, even_and_odd(workload.rows(1, BLOCK)[0]))
    race(
        benchmark,
        case("`write` from an odd buffer"),
        lambda offsets: write_each(store.volume, offsets, odd),
        prepare=lambda n: (offsets(n).tolist(),),
        yardstick=lambda offsets: clocked(write_each, store.volume, offsets, even),
    )


def test_write_many_from_an_odd_buffer(benchmark, store):
    even, odd = even_and_odd(workload.rows(BATCH, BLOCK))
    race(
        benchmark,
        case(f"`write_many` from an odd buffer, {BATCH} a batch"),
        lambda batches: write_batches(store.volume, batches, odd),
        prepare=lambda n: (workload.batches(offsets(n)),),
        yardstick=lambda batches: clocked(write_batches, store.volume, batches, even),
    )


def read_each(volume, offsets, buffer):
    for offset in offsets:
        volume.readinto(offset, buffer)


@pytest.mark.parametrize("what", ["into an odd buffer", "at odd offsets"])
def test_readinto(benchmark, store, what):
    """From the cache: there an odd address costs the most, beside the little that the rest does."""
    even, odd = map(memoryview, even_and_odd(np.zeros(BLOCK, np.uint8)))
    shift, target = (0, odd) if "buffer" in what else (ODD, even)
    race(
        benchmark,
        case(f"`readinto` {what}, from the cache"),
        lambda _, offsets: read_each(store.volume, offsets, target),
        prepare=lambda n: (
            offsets(n, size=HOT).tolist(),
            (offsets(n, size=HOT) + shift).tolist(),
        ),
        yardstick=lambda offsets, _: clocked(read_each, store.volume, offsets, even),
    )


def test_rewind_at_odd_offsets(benchmark, store):
    block = workload.rows(1, BLOCK).tobytes()
    points = []

    def dirty(offsets):
        points.append(store.seq)
        write_each(store.volume, offsets, block)

    def rewind_even(even, _):
        dirty(even)
        return clocked(store.rewind, points.pop())

    race(
        benchmark,
        case(f"`rewind` of {REWOUND:,} blocks at odd offsets", count=1),
        lambda *_: store.rewind(points.pop()),
        prepare=lambda n: (
            offsets(n, REWOUND).tolist(),
            (offsets(n, REWOUND) + ODD).tolist(),
        ),
        yardstick=rewind_even,
        arm=lambda _, odd: dirty(odd),
        rounds=51,
    )
