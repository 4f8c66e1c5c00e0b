"""Writes to a store on disk, by the call: into the overlay, and past it."""

import pytest

import jrnl

from . import tables, workload
from .harness import Case, clocked, race
from .on_disk import (
    CACHED,
    LAST_FLUSH,
    NOTHING,
    PlainFile,
    filled_store,
    folder,
    random_blocks,
    write_back,
)
from .workload import BLOCK, JOURNAL, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

IN_GROUP = 16 if workload.SMALL else 900  # fit the open group: nothing reaches the disk
IN_OVERLAY = 48 if workload.SMALL else 3000  # fit the overlay: three groups go to the log
PAST = 400 if workload.SMALL else 64 << 10  # 256 MiB a round: each wraps the journal
SEALED = "all but the open group"

BLOCK_BYTES = workload.rows(1, BLOCK).tobytes()


def write_each(volume, offsets):
    write, block = volume.write, BLOCK_BYTES
    for offset in offsets:
        write(offset, block)


@pytest.fixture(scope="module")
def place():
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def store(place):
    with filled_store(place / "store") as store:
        yield store


@pytest.fixture(scope="module", params=["both", "before"])
def in_memory(request):
    with jrnl.create(size=VOLUME, journal=JOURNAL, images=request.param) as store:
        workload.warm(store.volume)
        yield request.param, store.volume


@pytest.fixture(scope="module")
def file(place):
    plain = PlainFile(place / "plain", VOLUME)
    yield plain
    plain.close()


def race_in_overlay(benchmark, case, store, yardstick):
    race(
        benchmark,
        case,
        lambda offsets: write_each(store.volume, offsets),
        prepare=lambda number: (random_blocks(number, case.count),),
        yardstick=yardstick,
        arm=lambda offsets: write_back(store),
    )


@pytest.mark.parametrize("count", [IN_GROUP, IN_OVERLAY], ids=["group", "overlay"])
def test_beside_memory(benchmark, store, in_memory, count):
    """The same work: a store in memory that keeps both images; and one that keeps half as much."""
    name = "between flushes" if count == IN_GROUP else "in the overlay, groups going to the log"
    images, volume = in_memory
    case = Case(
        tables.DISK_WRITES,
        f"`write`, {name}",
        count,
        target=3.0 if images == "both" else None,
        yardstick=f"`write` in memory, images {images}",
        killed=SEALED,
        power=SEALED,
    )
    race_in_overlay(benchmark, case, store, lambda offsets: clocked(write_each, volume, offsets))


@pytest.mark.parametrize("count", [IN_GROUP, IN_OVERLAY], ids=["group", "overlay"])
def test_beside_pwrite(benchmark, store, file, count):
    name = "between flushes" if count == IN_GROUP else "in the overlay, groups going to the log"
    case = Case(
        tables.DISK_WRITES,
        f"`write`, {name}; beside a file",
        count,
        target=0.33,
        yardstick="`pwrite`, buffered",
        killed=SEALED,
        power=SEALED,
    )

    def pwrite(offsets):
        lap = file.write(offsets, BLOCK_BYTES)
        file.sync()
        return lap

    race_in_overlay(benchmark, case, store, pwrite)


@pytest.mark.parametrize("synced", [False, True], ids=["pwrite", "synced"])
def test_sustained(benchmark, store, file, synced):
    case = Case(
        tables.DISK_WRITES,
        f"`write`, past the overlay{', beside a synced file' if synced else ''}",
        PAST,
        target=1.25,
        yardstick="`pwrite`, one `fdatasync`" if synced else "`pwrite`, buffered",
        killed=SEALED,
        power=SEALED,
    )

    def pwrite(offsets):
        lap = file.write(offsets, BLOCK_BYTES, synced)
        file.sync()
        return lap

    race(
        benchmark,
        case,
        lambda offsets: write_each(store.volume, offsets),
        prepare=lambda number: (random_blocks(number, PAST),),
        yardstick=pwrite,
        rounds=5,
    )


def test_pwrite_of_single_pages(benchmark, place, file):
    """What the yardstick itself depends on."""
    case = Case(
        tables.DISK_WRITES,
        "`pwrite` into a file that was written by 4 KiB pieces",
        IN_OVERLAY,
        yardstick="`pwrite`, buffered",
        instead=True,
        killed=CACHED,
        power=NOTHING,
    )
    pages = PlainFile(place / "pages", VOLUME, BLOCK)
    try:
        race(
            benchmark,
            case,
            lambda offsets: pages.write(offsets, BLOCK_BYTES),
            prepare=lambda number: (random_blocks(number, IN_OVERLAY),),
            yardstick=lambda offsets: file.write(offsets, BLOCK_BYTES),
            disarm=lambda offsets: (pages.sync(), file.sync()),
        )
    finally:
        pages.close()


def test_one_flush(benchmark, store):
    """What a flush makes of it."""
    case = Case(
        tables.DISK_WRITES,
        f"`write` and one `flush` after {IN_GROUP}",
        IN_GROUP,
        killed=LAST_FLUSH,
        power=LAST_FLUSH,
    )

    def write_and_flush(offsets):
        write_each(store.volume, offsets)
        store.flush()

    race(
        benchmark,
        case,
        write_and_flush,
        prepare=lambda number: (random_blocks(number, IN_GROUP),),
        arm=lambda offsets: write_back(store),
    )
