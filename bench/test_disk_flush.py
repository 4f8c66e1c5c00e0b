"""Writes that are durable when they have returned, or after every so many; by several threads."""

import threading

import pytest

from . import tables, workload
from .harness import Case, clocked, race, skip
from .on_disk import (
    ALL,
    LAST_FLUSH,
    LmdbImages,
    PlainFile,
    SqliteTable,
    filled_store,
    folder,
    random_blocks,
)
from .workload import BLOCK, MIB, VOLUME

pytestmark = pytest.mark.benchmark(disable_gc=True)

COUNT = 8 if workload.SMALL else 400
BATCH = 64
BATCHES = 2 if workload.SMALL else 25
FILE = 4 * MIB if workload.SMALL else 256 * MIB
BLOCK_BYTES = workload.rows(1, BLOCK).tobytes()


@pytest.fixture(scope="module")
def place():
    with folder() as path:
        yield path


@pytest.fixture(scope="module")
def store(place):
    with filled_store(place / "store") as store:
        yield store


@pytest.fixture(scope="module")
def file(place):
    plain = PlainFile(place / "plain", FILE)
    yield plain
    plain.close()


def durable(name, count, **facts):
    facts = {"yardstick": "`pwrite` + `fdatasync`", "killed": ALL, "power": ALL} | facts
    return Case(tables.DISK_FLUSHES, name, count, **facts)


def write_and_flush(store, offsets, every=1):
    write, flush, block = store.volume.write, store.flush, BLOCK_BYTES
    for number, offset in enumerate(offsets, 1):
        write(offset, block)
        if number % every == 0:
            flush()


def test_flush_after_each(benchmark, store, file):
    race(
        benchmark,
        durable("`write`, `flush`", COUNT, target=1.25),
        lambda offsets: write_and_flush(store, offsets),
        prepare=lambda number: (random_blocks(number, COUNT),),
        yardstick=lambda offsets: file.append(COUNT, BLOCK_BYTES),
    )


def test_sync_always(benchmark, place, file):
    with filled_store(place / "always", sync="always") as store:

        def write_each(offsets, write=store.volume.write):
            for offset in offsets:
                write(offset, BLOCK_BYTES)

        race(
            benchmark,
            durable('`write`, `sync="always"`', COUNT, target=1.25),
            write_each,
            prepare=lambda number: (random_blocks(number, COUNT),),
            yardstick=lambda offsets: file.append(COUNT, BLOCK_BYTES),
        )


def test_flush_after_64(benchmark, store, file):
    count = BATCHES * BATCH
    case = durable(f"`write`, a `flush` every {BATCH}", count, killed=LAST_FLUSH, power=LAST_FLUSH)
    race(
        benchmark,
        case,
        lambda offsets: write_and_flush(store, offsets, BATCH),
        prepare=lambda number: (random_blocks(number, count),),
        yardstick=lambda offsets: file.append(count, BLOCK_BYTES, BATCH),
    )


def together(threads, function):
    """Run `function(number)` on so many threads; the last to end counts."""
    workers = [threading.Thread(target=function, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


@pytest.mark.parametrize("threads", [4, 16])
def test_threads(benchmark, place, store, threads):
    each = max(2, COUNT // threads)
    case = durable(
        f"`write`, `flush` on {threads} threads, all together",
        each * threads,
        yardstick="as many files and threads",
    )
    files = [PlainFile(place / f"{threads}-{k}", FILE // 16) for k in range(threads)]
    try:
        race(
            benchmark,
            case,
            lambda offsets: together(
                threads, lambda k: write_and_flush(store, offsets[k * each : (k + 1) * each])
            ),
            prepare=lambda number: (random_blocks(number, each * threads),),
            yardstick=lambda offsets: clocked(
                together, threads, lambda k: files[k].append(each, BLOCK_BYTES)
            ),
        )
    finally:
        for file in files:
            file.close()


def race_table(benchmark, file, table, name, batch):
    count = COUNT if batch == 1 else BATCHES * BATCH
    try:
        race(
            benchmark,
            durable(f"{name}, {batch} a transaction", count, instead=True),
            lambda offsets: table.write(workload.batches(offsets, batch), BLOCK_BYTES),
            prepare=lambda number: (random_blocks(number, count),),
            yardstick=lambda offsets: file.append(count, BLOCK_BYTES, batch),
        )
    finally:
        table.close()


@pytest.mark.parametrize("batch", [1, BATCH])
def test_sqlite(benchmark, place, file, batch):
    table = SqliteTable(place / f"{batch}.sqlite", VOLUME)
    race_table(benchmark, file, table, "SQLite, WAL, synchronous=FULL, both images", batch)


@pytest.mark.parametrize("batch", [1, BATCH])
def test_lmdb(benchmark, place, file, batch):
    name = "LMDB, synced, both images"
    try:
        import lmdb
    except ImportError:
        skip(durable(name, 1, instead=True), "not installed")
    table = LmdbImages(lmdb, place / f"{batch}.lmdb", VOLUME, 16 * FILE)
    race_table(benchmark, file, table, name, batch)
