"""Forks in memory: what making one costs, what its writes cost, and what it holds in memory."""

import os

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, keep, race, row
from .workload import BLOCK, GIB, JOURNAL, KIB, MIB

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZE = 64 * MIB if workload.SMALL else 4 * GIB
AREA = 64 * MIB  # in which all is written: a store's pages are huge
CHILDREN = 10 if workload.SMALL else 100
WRITES = 256 if workload.SMALL else 4096


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def prepared():
    """A store of which some blocks are written."""
    store = empty()
    for some in workload.batches(workload.distinct_offsets(0, WRITES, BLOCK, AREA), 256):
        store.volume.write_many(some, workload.rows(len(some), BLOCK))
    return store


def empty():
    return jrnl.create(size=SIZE, journal=JOURNAL)


def write_all(store, offsets, block):
    write = store.volume.write
    for offset in offsets:
        write(offset, block)


@pytest.mark.parametrize("back", [0, 100])
def test_making_one(benchmark, back):
    at = f", {back} entries back" if back else ""
    case = Case(
        tables.FORK,
        f"`fork` of a {tables.size(SIZE)} store{at}",
        target=None,
        yardstick="`create` of an empty one",
    )
    made = []
    with prepared() as store:
        race(
            benchmark,
            case,
            lambda: made.append(store.fork(at=store.seq - back if back else None)),
            yardstick=lambda: clocked(empty),
            disarm=lambda: made.pop().close(),
            rounds=51,
        )


@pytest.mark.parametrize("again", [True, False], ids=["again", "first"])
def test_writing_to_one(benchmark, again):
    """By a store's: to blocks that both have written before, or for the first time."""
    when = "blocks that it has written before" if again else "for the first time"
    case = Case(
        tables.FORK,
        f"one 4 KiB write to a fork, {when}",
        count=WRITES,
        yardstick="to a store",
    )
    block = workload.rows(1, BLOCK).tobytes()
    offsets = workload.distinct_offsets(1, WRITES, BLOCK, AREA).tolist()
    pairs = []

    def pair(number):
        fork, store = source.fork(), jrnl.create(size=SIZE, journal=JOURNAL)
        if again:
            write_all(fork, offsets, block)
            write_all(store, offsets, block)
        pairs[:] = [(fork, store)]
        return ()

    with prepared() as source:
        race(
            benchmark,
            case,
            lambda: write_all(pairs[0][0], offsets, block),
            yardstick=lambda: clocked(write_all, pairs[0][1], offsets, block),
            prepare=pair,
            rounds=11,
        )


def test_what_many_hold(benchmark):
    """Made, and once each has written one block."""
    case = Case(tables.FORK, f"memory of each of {CHILDREN} forks, as they are made")
    wrote = Case(tables.FORK, f"... once each has written {64 * BLOCK // KIB} KiB, 64 blocks")
    block = workload.rows(1, BLOCK).tobytes()
    with prepared() as store:
        store.fork().close()
        before = resident_bytes()
        forks = benchmark.pedantic(lambda: [store.fork() for _ in range(CHILDREN)], rounds=1)
        made = resident_bytes()
        for number, fork in enumerate(forks):
            write_all(fork, workload.distinct_offsets(number, 64, BLOCK, AREA).tolist(), block)
        written = resident_bytes()
        keep(
            benchmark,
            row(case, (made - before) / CHILDREN, unit="bytes"),
            row(wrote, (written - made) / CHILDREN, unit="bytes"),
        )
