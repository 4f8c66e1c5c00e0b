"""The same 4 KiB writes by a C program through jrnl.h, Python neither above nor in between."""

import numpy as np
import pytest

from . import tables, workload
from .from_c import CEngine
from .harness import Case, race
from .workload import BATCH, BLOCK, JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)


@pytest.fixture(scope="module")
def engine():
    engine = CEngine(VOLUME, JOURNAL)
    every_block = np.arange(0, VOLUME, BLOCK, dtype=np.int64)
    engine.write_many(every_block, workload.rows(BATCH, BLOCK, seed=2))
    many = workload.rows(BATCH, 64)  # all header slots have been used once
    for number in range(JOURNAL // 8 // 64 // (16 * BATCH) + 1):
        engine.write_many(workload.offsets(number, 16 * BATCH, 64), many)
    engine.write_many(every_block, workload.rows(BATCH, BLOCK, seed=2))
    yield engine
    engine.close()


def race_from_c(benchmark, case, write, rows, yardstick):
    race(
        benchmark,
        case,
        lambda offsets: write(offsets, rows),
        prepare=lambda number: (workload.offsets(number, case.count, BLOCK),),
        yardstick=lambda offsets: yardstick(offsets, rows),
    )


def test_write_from_c(benchmark, loop, engine):
    case = Case(tables.WRITES, "`write` from C", WRITES, target=1.15)
    race_from_c(benchmark, case, engine.write, workload.rows(1, BLOCK), loop.write)


def test_write_many_from_c(benchmark, loop, engine):
    case = Case(tables.WRITES, f"`write_many` from C, {BATCH} a batch", WRITES, target=0.80)
    race_from_c(benchmark, case, engine.write_many, workload.rows(BATCH, BLOCK), loop.write)


def test_write_from_c_by_fixed_kernels(benchmark, loop, engine):
    case = Case(tables.FIXED, "`write` from C", WRITES, target=1.15, yardstick="fixed kernels")
    race_from_c(benchmark, case, engine.write, workload.rows(1, BLOCK), loop.write_best)


def test_write_many_from_c_by_fixed_kernels(benchmark, loop, engine):
    name = f"`write_many` from C, {BATCH} a batch"
    case = Case(tables.FIXED, name, WRITES, target=1.10, yardstick="fixed kernels")

    def look_ahead(offsets, rows):
        return loop.write_best(offsets, rows, BATCH)

    race_from_c(benchmark, case, engine.write_many, workload.rows(BATCH, BLOCK), look_ahead)
