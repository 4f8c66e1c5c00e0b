"""What folding costs: the same writes into a store that folds, and into one that evicts.

Both journals are full from the start, and both volumes were written once over, so that each write
pushes entries out; in the store that folds each sixteenth of them goes into the snapshot first.
"""

import time

import pytest

import jrnl

from . import tables, workload
from .harness import Case, race
from .on_disk import LAST_FLUSH, folder
from .workload import BLOCK, DISK_JOURNAL, DISK_OVERLAY, JOURNAL, VOLUME, WRITES

pytestmark = pytest.mark.benchmark(disable_gc=True)

SIZES = {"size": VOLUME // 4, "journal": JOURNAL // 4}
DISK_SIZES = {"size": VOLUME // 4, "journal": DISK_JOURNAL // 8, "overlay": DISK_OVERLAY // 4}
FLUSH = 64
LAPS = 3  # of the journal before the first round: the snapshot's pages are there


def fill_laps(store):
    """Write until the journal was full some times."""
    workload.warm(store.volume)
    block = workload.rows(1, BLOCK).tobytes()
    for number in range(LAPS):
        write(store, offsets(store, -1 - number & 0xFFFF, store.journal.capacity // BLOCK), block)


def offsets(store, number, count):
    return workload.offsets(number, count, BLOCK, store.volume.size).tolist()


def write(store, offsets, block, every=0):
    """Write by the call, with a flush `every` so many; return the nanoseconds."""
    start, put = time.perf_counter_ns(), store.volume.write
    for number, offset in enumerate(offsets, 1):
        put(offset, block)
        if every and number % every == 0:
            store.flush()
    return time.perf_counter_ns() - start


def race_folds(benchmark, case, folds, evicts, every=0):
    block = workload.rows(1, BLOCK).tobytes()
    for store in (folds, evicts):
        fill_laps(store)
    race(
        benchmark,
        case,
        lambda work: write(folds, work, block, every),
        prepare=lambda number: (offsets(evicts, number, case.count),),
        yardstick=lambda work: write(evicts, work, block, every),
    )
    assert folds.snapshots["base"].seq == folds.window.oldest > 0


@pytest.mark.parametrize("images", ["before", "both", "after"])
def test_write_that_folds(benchmark, images):
    case = Case(tables.FOLD, f"`write` in memory, images {images}", WRITES,
                yardstick="evicting")  # fmt: skip
    with (
        jrnl.create(**SIZES, images=images, overflow="fold") as folds,
        jrnl.create(**SIZES, images=images) as evicts,
    ):
        race_folds(benchmark, case, folds, evicts)


@pytest.mark.parametrize("images", ["both", "after"])
def test_write_on_disk_that_folds(benchmark, images):
    case = Case(tables.FOLD, f"`write` on disk, images {images}, a flush every {FLUSH}",
                WRITES // 8, yardstick="evicting", killed=LAST_FLUSH,
                power=LAST_FLUSH)  # fmt: skip
    with (
        folder() as place,
        jrnl.create(place / "folds", **DISK_SIZES, images=images, overflow="fold") as folds,
        jrnl.create(place / "evicts", **DISK_SIZES, images=images) as evicts,
    ):
        race_folds(benchmark, case, folds, evicts, FLUSH)
