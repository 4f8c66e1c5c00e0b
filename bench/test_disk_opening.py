"""Opening a store on disk: a long history closed cleanly, and tails that a crash has left."""

import signal
import statistics
import subprocess
import sys
import time

import pytest

import jrnl

from . import tables, workload
from .crash import ROOT
from .harness import Case, keep, row
from .on_disk import ALL, LAST_FLUSH, folder
from .workload import BATCH, MIB

pytestmark = pytest.mark.benchmark(disable_gc=True)

ENTRIES = 10_000 if workload.SMALL else 1_000_000
SECTOR = 512
TAILS = (32, 256) if workload.SMALL else (2000, 16_000)  # writes of 4 KiB
ROUNDS = 1 if workload.SMALL else 5
LIMIT_NS = 5e8


def open_closed(path):
    """The nanoseconds until the store takes a write. It is left as it was found."""
    start = time.perf_counter_ns()
    with jrnl.open(path):
        return time.perf_counter_ns() - start


def test_clean(benchmark):
    """Sectors, so that a million entries and their images fit a test."""
    journal = ENTRIES * 64 * 8 + 16 * MIB  # an eighth holds the headers
    journal = max(journal, ENTRIES * 1024 * 9 // 8 + 16 * MIB)
    rows = workload.rows(BATCH, SECTOR)
    with folder() as place:
        with jrnl.create(place / "store", size=64 * MIB, journal=journal) as store:
            offsets = workload.offsets(0, ENTRIES, SECTOR, 64 * MIB)
            for some in workload.batches(offsets):
                store.volume.write_many(some, rows[: len(some)])
            assert store.seq == ENTRIES and store.window.oldest == 0
        laps = []
        benchmark.pedantic(
            lambda: laps.append(open_closed(place / "store")), rounds=ROUNDS, warmup_rounds=0
        )
    case = Case(
        tables.DISK_OPENING,
        f"closed cleanly, {ENTRIES:,} entries",
        yardstick="limit",
        target=1.0,
        killed=ALL,
        power=ALL,
    )
    keep(benchmark, row(case, statistics.median(laps), LIMIT_NS))


def crash(path, count):
    """A process writes a tail of `count` entries, flushes it, and kills itself."""
    command = [sys.executable, "-m", "bench.crash", str(path), str(count)]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL


def open_crashed(path, count):
    """Write the tail, lose the process, and time the opening; the store is closed cleanly."""
    crash(path, count)
    start = time.perf_counter_ns()
    store = jrnl.open(path)
    lap = time.perf_counter_ns() - start
    with store:
        assert store.seq >= count
    return lap


def test_crashed(benchmark):
    laps = {count: [] for count in TAILS}
    with folder() as place:
        for count in TAILS:
            size, journal = 64 * MIB, 4 * MIB if workload.SMALL else 512 * MIB
            jrnl.create(place / str(count), size=size, journal=journal).close()

        def open_both():
            for count in TAILS:
                laps[count].append(open_crashed(place / str(count), count))

        benchmark.pedantic(open_both, rounds=ROUNDS, warmup_rounds=0)
    small, large = TAILS
    names = (f"after a crash, a tail of {count:,} 4 KiB writes" for count in TAILS)
    survives = {"killed": LAST_FLUSH, "power": LAST_FLUSH}
    keep(
        benchmark,
        row(Case(tables.DISK_OPENING, next(names), **survives), statistics.median(laps[small])),
    )
    times = large // small
    case = Case(
        tables.DISK_OPENING,
        next(names),
        yardstick=f"{times} times the one above",
        target=1.25,
        **survives,
    )
    ratios = [b / (times * a) for a, b in zip(laps[small], laps[large], strict=True)]
    keep(
        benchmark,
        row(case, statistics.median(laps[large]), times * statistics.median(laps[small]), ratios),
    )
