"""A sparse volume of 8 TiB beside one that fits the memory: as many blocks are in use in both."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BATCH, BLOCK, GIB, JOURNAL, VOLUME, WRITES
from .yardstick import CLoop

pytestmark = pytest.mark.benchmark(disable_gc=True)

SPARSE = 8192 * GIB
USED = VOLUME // BLOCK


@pytest.fixture(scope="module")
def places():
    """Where block i of the small volume is in the sparse one: anywhere."""
    return workload.offsets(0, USED, BLOCK, SPARSE)


@pytest.fixture(scope="module")
def small():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.evicting(store.volume)
        yield store.volume


@pytest.fixture(scope="module")
def sparse(places):
    """Every page that will be written is there, and all header slots have been used once."""
    rows = workload.rows(BATCH, BLOCK, seed=2)
    with jrnl.create(size=SPARSE, journal=JOURNAL) as store:
        for _ in range(2):
            for some in workload.batches(places):
                store.volume.write_many(some, rows)
            workload.warm_small(store.volume, JOURNAL, 64, VOLUME)
        for some in workload.batches(places):
            store.volume.write_many(some, rows)
        yield store.volume


@pytest.mark.parametrize("batch", [1, BATCH])
def test_sparse(benchmark, small, sparse, places, batch):
    case = Case(
        tables.SPARSE,
        workload.way_of_writing(batch),
        WRITES,
        target=1.3,
        yardstick=f"{tables.size(VOLUME)} volume",
    )
    write = workload.writing(batch)

    def prepare(number):
        blocks = workload.offsets(number, WRITES, 1, USED)
        both = (blocks * BLOCK, places[blocks])
        return [workload.cut(at, batch) for at in both]

    race(
        benchmark,
        case,
        lambda _, offsets: write(sparse, offsets),
        prepare=prepare,
        yardstick=lambda offsets, _: clocked(write, small, offsets),
    )


def test_loop(benchmark, small, sparse, places):
    """What the page tables alone cost: the C loop on the memory of both volumes."""
    case = Case(
        tables.SPARSE,
        "the C loop",
        WRITES,
        yardstick=f"{tables.size(VOLUME)} volume",
        instead=True,
    )
    rows = workload.rows(1, BLOCK)
    on_sparse, on_small = [
        CLoop(0, JOURNAL, address=volume.as_array().ctypes.data) for volume in (sparse, small)
    ]

    def prepare(number):
        blocks = workload.offsets(number, WRITES, 1, USED)
        return blocks * BLOCK, places[blocks]

    race(
        benchmark,
        case,
        lambda _, offsets: on_sparse.write(offsets, rows),
        prepare=prepare,
        yardstick=lambda offsets, _: on_small.write(offsets, rows),
    )
