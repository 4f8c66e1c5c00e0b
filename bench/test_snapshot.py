"""Snapshots: what taking one costs a writer, by the volume's size, and what having many costs."""

import gc
import statistics
import threading
import time

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, keep, race, row, skip
from .on_disk import filled_store, folder
from .workload import BLOCK, GIB, JOURNAL, MIB, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZES = (MIB, 16 * MIB) if workload.SMALL else (64 * MIB, 256 * MIB, GIB, 4 * GIB)
ROUNDS = 1 if workload.SMALL else 15
LONG_ROUNDS = 1 if workload.SMALL else 7  # where one takes seconds
WRITES = 64 if workload.SMALL else 20_000  # of each round, half of them before the snapshot
FLUSH = 64  # on disk: writes for each flush
COUNTS = (10,) if workload.SMALL else (10, 100, 1000)
MEMORY_SHARE = 0.8  # of what is free: the volume, its copy, and the journal


def test_snapshot(benchmark):
    """Taken and copied to the end, nobody writing, beside a plain copy of the same array."""
    case = Case(tables.SNAPSHOT, "`snapshot` and `wait`", yardstick="np.copy")
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        array = store.volume.as_array()

        def take():
            store.snapshot("bench").wait()

        race(
            benchmark,
            case,
            take,
            yardstick=lambda: clocked(np.copy, array),
            disarm=lambda: [taken.delete() for taken in store.snapshots.values()],
        )


def free_bytes():
    with open("/proc/meminfo") as lines:
        found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return found["MemAvailable"] * 1024


class Writer(threading.Thread):
    """Writes 4 KiB blocks at random, each write clocked; tells when it is half through."""

    def __init__(self, store, number):
        super().__init__()
        self.store, self.half = store, threading.Event()
        self.offsets = workload.offsets(number, WRITES, BLOCK, store.volume.size).tolist()
        self.block = workload.rows(1, BLOCK, seed=number + 1).tobytes()
        self.laps = []

    def run(self):
        write, clock, laps = self.store.volume.write, time.perf_counter_ns, self.laps
        flush, flushes = self.store.flush, self.store._engine.on_disk
        for number, offset in enumerate(self.offsets):
            if number == WRITES // 2:
                self.half.set()
            start = clock()
            write(offset, self.block)
            laps.append(clock() - start)
            if flushes and number % FLUSH == 0:
                flush()


def one_round(store, number, take):
    """The longest write of a round, and what taking a snapshot in its middle took."""
    writer = Writer(store, number)
    writer.start()
    writer.half.wait()
    taken = clocked(store.snapshot, "bench") if take else 0
    writer.join()
    return max(writer.laps), taken


def stalls(benchmark, store, where):
    """Rounds with a snapshot and without, in turn; and once, how long the copying takes."""
    title = f"{tables.size(store.volume.size)} {where}"
    with_one, without, calls, complete = [], [], [], []

    def rounds():
        for number in range(LONG_ROUNDS if store.volume.size >= GIB else ROUNDS):
            without.append(one_round(store, 2 * number, take=False)[0])
            start = time.perf_counter_ns()
            longest, call = one_round(store, 2 * number + 1, take=True)
            with_one.append(longest)
            calls.append(call)
            while not store.snapshots["bench"].complete:
                time.sleep(0.001)
            complete.append(time.perf_counter_ns() - start)
            store.snapshots["bench"].delete()

    benchmark.pedantic(rounds, rounds=1)
    pairs = [one / other for one, other in zip(with_one, without, strict=True)]
    longest = Case(tables.STALL, f"{title}: longest write while one is taken", yardstick="without")
    keep(
        benchmark,
        row(longest, statistics.median(with_one), statistics.median(without), pairs),
        row(Case(tables.STALL, f"{title}: `snapshot` itself"), statistics.median(calls)),
        row(Case(tables.STALL, f"{title}: until it is complete"), statistics.median(complete)),
    )


@pytest.mark.parametrize("size", SIZES, ids=tables.size)
def test_stall_in_memory(benchmark, size):
    wanted = 2 * size + JOURNAL
    if wanted > MEMORY_SHARE * free_bytes():
        case = Case(tables.STALL, f"{tables.size(size)} in memory")
        skip(case, f"takes {wanted // MIB} MiB of memory")
    gc.collect()
    with jrnl.create(size=size, journal=JOURNAL) as store:
        workload.warm(store.volume)
        stalls(benchmark, store, "in memory")


@pytest.mark.parametrize("size", SIZES[:3], ids=tables.size)
def test_stall_on_disk(benchmark, size):
    with folder() as here, filled_store(here / "s", size=size) as store:
        stalls(benchmark, store, "on disk")


def test_many_snapshots(benchmark):
    """A write's cost beside any number of snapshots, all of them complete."""
    block = workload.rows(1, BLOCK)[0].tobytes()
    touched = workload.offsets(0, 64, BLOCK, MIB // 4).tolist()  # the copies are small: so many

    def writes(store):
        write = store.volume.write
        for offset in touched * (workload.WRITES // 64):
            write(offset, block)

    with (
        jrnl.create(size=VOLUME, journal=16 * MIB) as store,
        jrnl.create(size=VOLUME, journal=16 * MIB) as bare,
    ):
        writes(store)
        writes(bare)
        names = iter(range(max(COUNTS)))
        rows = []
        for count in COUNTS:
            while len(store.snapshots) < count:
                store.snapshot(f"s{next(names)}").wait()
            name = f"beside {count} snapshots"
            case = Case(tables.SNAPSHOTS, name, count=workload.WRITES, aim=1.0, yardstick="none")
            ours, yard = [], []
            for _ in range(ROUNDS):
                yard.append(clocked(writes, bare) / case.count)
                ours.append(clocked(writes, store) / case.count)
            ratios = [one / other for one, other in zip(ours, yard, strict=True)]
            rows.append(row(case, statistics.median(ours), statistics.median(yard), ratios))
        benchmark.pedantic(writes, (store,), rounds=1)
        keep(benchmark, *rows)
