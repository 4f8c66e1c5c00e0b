"""Writes into a volume whose journal evicts, by the call and in batches, in several sizes."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .workload import BATCH, BLOCK, JOURNAL, KIB, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZES = {8: "8 B", 64: "64 B", 512: "512 B", 64 * KIB: "64 KiB"}


@pytest.fixture(scope="module")
def volume():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        yield store.volume


@pytest.fixture(scope="module")
def volume_of_both():
    with jrnl.create(size=VOLUME, journal=JOURNAL, images="both") as store:
        yield store.volume


@pytest.fixture
def unchecked_volume():
    with jrnl.create(size=VOLUME, journal=JOURNAL, checksum=False) as store:
        yield store.volume


def count_of(length):
    """Writes of a round: as many as of 4 KiB, less where that would be too many bytes."""
    return min(WRITES, WRITES * BLOCK // length)


def race_calls(benchmark, case, loop, volume, length=BLOCK, write=None):
    """`write` from a Python loop. The data is one bytes object, as a caller would have it."""
    workload.evicting(volume, length)
    yardstick = write or loop.write
    rows = workload.rows(1, length)
    block = rows.tobytes()

    def prepare(number):
        offsets = workload.offsets(number, case.count, length)
        return offsets, offsets.tolist()

    def write_each(_, offsets, write=volume.write):
        for offset in offsets:
            write(offset, block)

    race(
        benchmark,
        case,
        write_each,
        prepare=prepare,
        yardstick=lambda offsets, _: yardstick(offsets, rows),
    )


def race_batches(benchmark, case, loop, volume, length=BLOCK, write=None):
    """`write_many` over ready-made batches."""
    workload.evicting(volume, length)
    yardstick = write or loop.write
    batch = min(BATCH, JOURNAL // 16 // length)
    rows = workload.rows(batch, length)

    def prepare(number):
        offsets = workload.offsets(number, case.count, length)
        return offsets, workload.batches(offsets, batch)

    def write_batches(_, batches, write_many=volume.write_many):
        for offsets in batches:
            write_many(offsets, rows)

    race(
        benchmark,
        case,
        write_batches,
        prepare=prepare,
        yardstick=lambda offsets, _: yardstick(offsets, rows),
    )


def test_write(benchmark, loop, volume):
    case = Case(tables.WRITES, "`write`, by the call", WRITES, target=1.30)
    race_calls(benchmark, case, loop, volume)


def test_write_many(benchmark, loop, volume):
    case = Case(tables.WRITES, f"`write_many`, {BATCH} a batch", WRITES, target=0.80)
    race_batches(benchmark, case, loop, volume)


BOTH = "C loop that keeps both"


def test_write_of_both_images(benchmark, loop, volume_of_both):
    case = Case(tables.WRITES, "`write`, both images", WRITES, target=1.30, yardstick=BOTH)
    race_calls(benchmark, case, loop, volume_of_both, write=loop.write_both)


def test_write_many_of_both_images(benchmark, loop, volume_of_both):
    name = f"`write_many`, {BATCH} a batch, both images"
    case = Case(tables.WRITES, name, WRITES, target=1.10, yardstick=BOTH)
    race_batches(benchmark, case, loop, volume_of_both, write=loop.write_both)


FIXED = "fixed kernels"


def test_write_by_fixed_kernels(benchmark, loop, volume):
    case = Case(tables.FIXED, "`write`, by the call", WRITES, target=1.30, yardstick=FIXED)
    race_calls(benchmark, case, loop, volume, write=loop.write_best)


def test_write_many_by_fixed_kernels(benchmark, loop, volume):
    name = f"`write_many`, {BATCH} a batch"
    case = Case(tables.FIXED, name, WRITES, target=1.10, yardstick=FIXED)

    def look_ahead(offsets, rows):
        return loop.write_best(offsets, rows, BATCH)

    race_batches(benchmark, case, loop, volume, write=look_ahead)


def test_write_without_checksums(benchmark, loop, unchecked_volume):
    case = Case(tables.WRITES, "`write`, checksums off", WRITES)
    race_calls(benchmark, case, loop, unchecked_volume)


def test_write_many_without_checksums(benchmark, loop, unchecked_volume):
    case = Case(tables.WRITES, f"`write_many`, {BATCH} a batch, checksums off", WRITES)
    race_batches(benchmark, case, loop, unchecked_volume)


@pytest.mark.parametrize("length", SIZES, ids=lambda length: f"{length}B")
def test_write_of_size(benchmark, loop, volume, length):
    case = Case(tables.SIZES, f"`write`, {SIZES[length]}", count_of(length))
    race_calls(benchmark, case, loop, volume, length)


@pytest.mark.parametrize("length", SIZES, ids=lambda length: f"{length}B")
def test_write_many_of_size(benchmark, loop, volume, length):
    target = 2.0 if length == 64 else None
    case = Case(tables.SIZES, f"`write_many`, {SIZES[length]}", count_of(length), target=target)
    race_batches(benchmark, case, loop, volume, length)


def test_write_beside_memoryview(benchmark, loop, volume, hand):
    """The least that a write from Python can cost, by the least that it costs by hand."""
    case = Case(
        tables.SIZES,
        "`write`, 8 B, beside memoryview",
        count_of(8),
        target=1 / 1.8,
        yardstick="memoryview slices",
    )

    def by_hand(offsets, rows):
        return clocked(hand.memoryview_slices, offsets.tolist(), rows[0])

    race_calls(benchmark, case, loop, volume, 8, write=by_hand)


def test_first_lap(benchmark, loop):
    """What a store costs that has just been made: the journal's memory is fresh."""
    case = Case(
        tables.WRITES,
        "`write`, by the call, the first lap",
        JOURNAL // 2 // BLOCK,
        target=1.10,
        yardstick="later laps",
    )
    block = workload.rows(1, BLOCK).tobytes()
    stores = []

    def arm(*_):
        stores.append(jrnl.wrap(loop.volume, journal=JOURNAL))

    def write_each(offsets):
        write = stores[-1].volume.write
        for offset in offsets:
            write(offset, block)

    def a_later_lap(offsets):
        workload.evicting(stores[-1].volume)
        return clocked(write_each, offsets)

    race(
        benchmark,
        case,
        write_each,
        prepare=lambda number: (workload.offsets(number, case.count, BLOCK).tolist(),),
        yardstick=a_later_lap,
        afterwards=True,
        arm=arm,
        disarm=lambda *_: stores.pop().close(),
    )
