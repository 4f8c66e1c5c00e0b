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
    yield engine
    engine.close()


def race_from_c(benchmark, case, loop, write, rows):
    race(
        benchmark,
        case,
        lambda offsets: write(offsets, rows),
        prepare=lambda number: (workload.offsets(number, case.count, BLOCK),),
        yardstick=lambda offsets: loop.write(offsets, rows),
    )


def test_write_from_c(benchmark, loop, engine):
    case = Case(tables.WRITES, "`write` from C", WRITES, target=1.1)
    race_from_c(benchmark, case, loop, engine.write, workload.rows(1, BLOCK))


def test_write_many_from_c(benchmark, loop, engine):
    case = Case(tables.WRITES, f"`write_many` from C, {BATCH} a batch", WRITES)
    race_from_c(benchmark, case, loop, engine.write_many, workload.rows(BATCH, BLOCK))
