"""How long a single write takes while every write evicts: the median and the slow ones."""

import time

import numpy as np
import pytest

import jrnl

from . import tables, workload
from .harness import Case, keep, row
from .workload import BLOCK, JOURNAL, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

COUNT = 1000 if workload.SMALL else 200_000
PERCENTILES = (50, 99.9)


def write_clocked(laps, offsets, block, write, clock):
    """laps[i] becomes the nanoseconds of write i, with what one clock read costs."""
    for i, offset in enumerate(offsets):
        start = clock()
        write(offset, block)
        laps[i] = clock() - start


def clock_alone(laps, clock):
    for i in range(len(laps)):
        start = clock()
        laps[i] = clock() - start


def test_latency(benchmark, loop):
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        workload.warm(store.volume)
        rows = workload.rows(1, BLOCK)
        offsets = workload.offsets(0, COUNT, BLOCK)
        laps, empty = [0] * COUNT, [0] * COUNT
        yardstick = loop.write_laps(offsets, rows)
        clock_alone(empty, time.perf_counter_ns)
        benchmark.pedantic(
            write_clocked,
            (laps, offsets.tolist(), rows.tobytes(), store.volume.write, time.perf_counter_ns),
        )
    for percentile in PERCENTILES:
        case = Case(tables.LATENCY, f"`write`, p{percentile}")
        yard = float(np.percentile(yardstick, percentile))
        keep(benchmark, row(case, float(np.percentile(laps, percentile)), yard))
    timer = Case(tables.LATENCY, "the timer itself, in each of the above", instead=True)
    keep(benchmark, row(timer, float(np.median(empty))))
