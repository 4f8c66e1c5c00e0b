"""Writes into a volume whose journal evicts, by the call and in batches, in several sizes."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, race
from .workload import BATCH, BLOCK, JOURNAL, KIB, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZES = {8: "8 B", 64: "64 B", 512: "512 B", 64 * KIB: "64 KiB"}


@pytest.fixture(scope="module")
def volume():
    with jrnl.create(size=VOLUME, journal=JOURNAL) as store:
        yield store.volume


@pytest.fixture
def unchecked_volume():
    with jrnl.create(size=VOLUME, journal=JOURNAL, checksum=False) as store:
        yield store.volume


def count_of(length):
    """Writes of a round: as many as of 4 KiB, less where that would be too many bytes."""
    return min(WRITES, WRITES * BLOCK // length)


def evicting(volume, length):
    workload.warm(volume)
    if length < 512:
        workload.warm_small(volume, JOURNAL, length)


def race_calls(benchmark, case, loop, volume, length=BLOCK):
    """`write` from a Python loop. The data is one bytes object, as a caller would have it."""
    evicting(volume, length)
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
        yardstick=lambda offsets, _: loop.write(offsets, rows),
    )


def race_batches(benchmark, case, loop, volume, length=BLOCK):
    """`write_many` over ready-made batches."""
    evicting(volume, length)
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
        yardstick=lambda offsets, _: loop.write(offsets, rows),
    )


def test_write(benchmark, loop, volume):
    case = Case(tables.WRITES, "`write`, by the call", WRITES, target=1.35, aim=1.15)
    race_calls(benchmark, case, loop, volume)


def test_write_many(benchmark, loop, volume):
    case = Case(tables.WRITES, f"`write_many`, {BATCH} a batch", WRITES, target=0.95, aim=0.80)
    race_batches(benchmark, case, loop, volume)


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
    case = Case(tables.SIZES, f"`write_many`, {SIZES[length]}", count_of(length))
    race_batches(benchmark, case, loop, volume, length)
