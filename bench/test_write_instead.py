"""What a user would write or pick instead of jrnl for the same 4 KiB writes."""

import pytest

from . import tables, workload
from .compiler import BuildError
from .harness import Case, race, skip
from .key_value import LmdbTable
from .undo_log import NoRoom, UndoLog
from .workload import BATCH, BLOCK, JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)


def instead(name, count=WRITES, table=tables.WRITES):
    return Case(table, name, count, instead=True)


def race_calls(benchmark, case, loop, write, length=BLOCK):
    rows = workload.rows(1, length)

    def prepare(number):
        offsets = workload.offsets(number, case.count, length)
        return offsets, offsets.tolist()

    race(
        benchmark,
        case,
        lambda _, offsets: write(offsets, rows[0]),
        prepare=prepare,
        yardstick=lambda offsets, _: loop.write(offsets, rows),
    )


def test_memoryview_slices(benchmark, loop, hand):
    race_calls(benchmark, instead("memoryview slices, by the call"), loop, hand.memoryview_slices)


def test_memoryview_slices_of_64_bytes(benchmark, loop, hand):
    case = instead("memoryview slices, 64 B", table=tables.SIZES)
    race_calls(benchmark, case, loop, hand.memoryview_slices, length=64)


def test_numpy_slices(benchmark, loop, hand):
    race_calls(benchmark, instead("NumPy slices, by the call"), loop, hand.numpy_slices)


def race_blocks(benchmark, case, loop, write):
    """Vectorised ways take block numbers in batches."""
    rows = workload.rows(BATCH, BLOCK)

    def prepare(number):
        offsets = workload.offsets(number, case.count, BLOCK)
        return offsets, workload.batches(offsets // BLOCK)

    race(
        benchmark,
        case,
        lambda _, batches: write(batches, rows),
        prepare=prepare,
        yardstick=lambda offsets, _: loop.write(offsets, rows),
    )


def test_numpy_fancy_indexing(benchmark, loop, hand):
    case = instead(f"NumPy vectorised, {BATCH} a batch, no repeats")
    race_blocks(benchmark, case, loop, hand.fancy_indexing)


def test_numpy_take(benchmark, loop, hand):
    case = instead(f"NumPy vectorised, {BATCH} a batch, no repeats, tuned `take`")
    race_blocks(benchmark, case, loop, hand.take_void)


@pytest.mark.parametrize("batch", [1, BATCH])
def test_lmdb(benchmark, loop, batch):
    case = instead(f"LMDB, one put a write, {batch} a transaction, no sync", WRITES // 8)
    try:
        import lmdb
    except ImportError:
        skip(case, "not installed")
    table = LmdbTable(lmdb, VOLUME, JOURNAL, BLOCK)
    try:
        rows = workload.rows(1, BLOCK)
        block = rows.tobytes()
        table.fill(workload.offsets(0, BATCH, BLOCK).tolist(), block)

        def prepare(number):
            offsets = workload.offsets(number, case.count, BLOCK)
            return offsets, workload.batches(offsets.tolist(), batch)

        race(
            benchmark,
            case,
            lambda _, batches: table.write(batches, block),
            prepare=prepare,
            yardstick=lambda offsets, _: loop.write(offsets, rows),
        )
    finally:
        table.close()


@pytest.fixture(scope="module")
def undo_log():
    """The open pool, or why there is none."""
    try:
        log = UndoLog(VOLUME)
    except BuildError:
        yield "not installed"
    except NoRoom as error:
        yield str(error)
    else:
        yield log
        log.close()


@pytest.mark.parametrize("batch", [1, 16])
def test_libpmemobj(benchmark, loop, undo_log, batch):
    case = instead(f"libpmemobj undo log in C, {batch} a transaction, no history", WRITES // 2)
    if isinstance(undo_log, str):
        skip(case, undo_log)
    rows = workload.rows(1, BLOCK)
    race(
        benchmark,
        case,
        lambda offsets: undo_log.write(offsets, rows[0], batch),
        prepare=lambda number: (workload.offsets(number, case.count, BLOCK),),
        yardstick=lambda offsets: loop.write(offsets, rows),
    )
